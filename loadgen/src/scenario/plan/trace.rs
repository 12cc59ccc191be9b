//! A storm as it was recorded of real routers: sizes and pauses are drawn from its distributions.
//!
//! In:   a `Trace`: who says how much in which time, in batches of which sizes.
//! Out:  epochs of one act: core routers take prefixes off a link, with new labels; or provider
//!       edges of a VPN give the prefixes of their sites new labels.
//! Law:  what is said is true: every batch is the difference of two tables, whatever was drawn.
//! Not:  the distributions themselves (`scenario/pace`), who is in the area (`services/area`).

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use storage::time::Micros;

use super::{Epoch, Planner};
use crate::network::{Network, Unit};
use crate::scenario::react::{Reaction, Reactions};
use crate::scenario::{Speakers, Trace};
use crate::services::area::PREFIXES_PER_ROUTER;
use crate::services::l3vpn::SitePrefix;
use crate::state::State;

/// Mappings that a router says of another's prefix that has a new label: what it pushes, and what
/// it does with the old and with the new label.
const PER_PREFIX: f64 = 3.0;
/// The VPN whose sites are the routers of a trace.
const VPN: usize = 0;

/// The routers that speak, each with prefixes of its own that all of them have labels for.
struct Cast {
    speakers: Speakers,
    routers: Vec<usize>,
    /// How many prefixes each has.
    prefixes: u16,
    /// In words.
    what: String,
}

/// One router of the trace.
struct Speaker {
    router_index: usize,
    /// When it has installed its last batch, in microseconds after the act's beginning.
    free_us: f64,
    /// Between two changes that it installs.
    change_us: f64,
}

impl Cast {
    /// Prefixes of one of them get new labels: what the network comes to.
    fn renew(&self, network: &Network, before: &State, owner: usize, numbers: &[u16]) -> State {
        let numbers = numbers.iter().copied();
        match self.speakers {
            Speakers::Cores => {
                let prefixes: Vec<(usize, u16)> = numbers.map(|number| (owner, number)).collect();
                before.rebound(network, &prefixes)
            }
            Speakers::L3vpn => {
                let site = network.vpns[VPN].sites[owner];
                let route = |number| SitePrefix { vpn_index: VPN, site, number };
                before.relabelled(network, &numbers.map(route).collect::<Vec<SitePrefix>>())
            }
        }
    }

    /// What a router has to install of it.
    fn units(&self, network: &Network, owner: usize, router_index: usize) -> Vec<Unit> {
        match self.speakers {
            Speakers::Cores => vec![Unit::Area(owner)],
            Speakers::L3vpn if self.routers[owner] == router_index => vec![Unit::Vpn(VPN)],
            Speakers::L3vpn => vec![Unit::Vpn(VPN), Unit::Fec(network.vpns[VPN].sites[owner])],
        }
    }
}

impl Planner<'_> {
    pub(super) fn trace(&mut self, step: &Trace) -> Option<String> {
        let cast = self.cast(step)?;
        let [slow, fast] = self.pace.changes_per_second.0.map(f64::from);
        let mut speakers = Vec::new();
        for router_index in cast.routers.iter().copied() {
            let rate = slow * (fast / slow).powf(self.chance.random());
            let free_us = step.pause_us.draw(&mut self.chance);
            speakers.push(Speaker { router_index, free_us, change_us: 1e6 / rate });
        }
        let began = self.plan.epochs.len();
        let (mut said, mut next) = (0_u64, BTreeMap::<usize, u16>::new());
        while said < u64::from(step.messages.0) {
            let owner = self.chance.random_range(0..cast.routers.len());
            let size = (step.batch.draw(&mut self.chance) / PER_PREFIX).round().max(1.0) as u64;
            // No more than is missing: every prefix is said by all.
            let each = PER_PREFIX as u64 * cast.routers.len() as u64;
            let missing = (u64::from(step.messages.0) - said).div_ceil(each).max(1);
            let number = next.entry(owner).or_default();
            let mut numbers = Vec::new();
            for _ in 0..size.min(missing).min(cast.prefixes.into()) {
                numbers.push(*number);
                *number = (*number + 1) % cast.prefixes;
            }
            said += self.renew(step, &cast, owner, &numbers, &mut speakers);
        }
        self.fit(step, began);
        for (router_index, reaction) in self.plan.epochs[began..].iter().flat_map(|e| &e.reactions)
        {
            self.free_us.insert(*router_index, reaction.end_us() + reaction.install_us);
        }
        Some(format!("{} say {said} mappings, as real ones did", cast.what))
    }

    /// Who speaks. `None` where the network has not as many.
    fn cast(&self, step: &Trace) -> Option<Cast> {
        let (network, speakers) = (self.network, step.speakers);
        let (routers, prefixes, what) = match speakers {
            Speakers::Cores => {
                let area = network.area.as_ref()?;
                let what = format!("routers around the link {}", self.link_name(area.link));
                (area.routers.clone(), PREFIXES_PER_ROUTER, what)
            }
            Speakers::L3vpn => {
                let vpn = network.vpns.get(VPN).filter(|_| network.churns)?;
                let edges = vpn.sites.iter().map(|site| network.topology.edges[*site]);
                (edges.collect(), vpn.prefixes, "provider edges of a VPN".to_owned())
            }
        };
        let what = format!("{} {what}", routers.len());
        (routers.len() == usize::from(step.routers.0)).then_some(())?;
        Some(Cast { speakers, routers, prefixes, what })
    }

    /// The prefixes get new labels; every speaker says so in its own time. Returns how many
    /// mappings that takes.
    fn renew(
        &mut self,
        step: &Trace,
        cast: &Cast,
        owner: usize,
        numbers: &[u16],
        speakers: &mut [Speaker],
    ) -> u64 {
        let before = Arc::clone(self.state());
        let state = cast.renew(self.network, &before, owner, numbers);
        let (mut said, mut reactions) = (0, Reactions::new());
        for speaker in speakers {
            let router_index = speaker.router_index;
            let units = cast.units(self.network, owner, router_index);
            let mut changes = Vec::new();
            for unit in &units {
                let states = [&*before, &state];
                self.network.changes(states, router_index, *unit, Micros(0), &mut changes);
            }
            let count = changes.len() as f64;
            let start_us = speaker.free_us as i64;
            let install_us = ((speaker.change_us * count / 2.0) as i64).max(1);
            let pause_us = step.pause_us.draw(&mut self.chance);
            speaker.free_us += speaker.change_us * count + pause_us.max(2.0);
            said += changes.len() as u64;
            // A router that is down, or cut off by what is, has nothing to say.
            if !(changes.is_empty() || state.down.routers.contains(&router_index)) {
                let reaction = Reaction { start_us, install_us, units, ..Reaction::default() };
                reactions.insert(router_index, reaction);
            }
        }
        let act = self.plan.acts.len() - 1;
        let state = Arc::new(state);
        self.plan.epochs.push(Epoch { act, offset_us: 0, state, reactions });
        said
    }

    /// Stretches or squeezes time so that the last is said when the trace ends; the shape stays.
    fn fit(&mut self, step: &Trace, began: usize) {
        let Some(over_us) = step.over_ms.map(super::super::Millis::micros) else { return };
        let epochs = &mut self.plan.epochs[began..];
        let ends = epochs.iter().filter_map(Epoch::span_us).map(|(_, last_us)| last_us);
        let factor = over_us as f64 / ends.max().unwrap_or(over_us).max(1) as f64;
        let scaled = |micros: i64| (micros as f64 * factor) as i64;
        let mut free_us: BTreeMap<usize, i64> = BTreeMap::new();
        for epoch in epochs {
            for (router_index, reaction) in &mut epoch.reactions {
                let free_us = free_us.entry(*router_index).or_default();
                reaction.install_us = scaled(reaction.install_us).max(1);
                reaction.start_us = scaled(reaction.start_us).max(*free_us);
                *free_us = reaction.end_us() + 1;
            }
        }
    }
}
