//! A storm as it was recorded of real routers: sizes and pauses are drawn from its distributions.
//!
//! In:   a `Trace`: how many routers say how much in which time, in batches of which sizes.
//! Out:  epochs of one act: provider edges of a VPN give the prefixes of their sites new labels.
//! Law:  what is said is true: every batch is the difference of two tables, whatever was drawn.
//! Not:  the distributions themselves (`scenario/pace`).

use std::collections::BTreeMap;

use rand::RngExt;
use rand::seq::IndexedRandom;
use storage::time::Micros;

use super::{Epoch, Planner};
use crate::network::Unit;
use crate::scenario::Trace;
use crate::scenario::react::{Reaction, Reactions};
use crate::services::l3vpn::SitePrefix;

/// Mappings that a site says of another's prefix that has a new label: the prefix, and what is
/// pushed on the old and on the new label.
const PER_PREFIX: f64 = 3.0;
/// The VPN whose sites are the routers of a trace.
const VPN: usize = 0;

/// One router of the trace.
struct Speaker {
    router_index: usize,
    /// When it has installed its last batch, in microseconds after the act's beginning.
    free_us: f64,
    /// Between two changes that it installs.
    change_us: f64,
}

impl Planner<'_> {
    pub(super) fn trace(&mut self, step: &Trace) -> Option<String> {
        let vpn = self.network.vpns.get(VPN)?;
        let sites = vpn.sites.clone();
        if sites.len() != usize::from(step.routers.0) || !self.network.churns {
            return None;
        }
        let [slow, fast] = self.pace.changes_per_second.0.map(f64::from);
        let mut speakers = Vec::new();
        for site in &sites {
            let router_index = self.network.topology.edges[*site];
            let rate = slow * (fast / slow).powf(self.chance.random());
            let free_us = step.pause_us.draw(&mut self.chance);
            speakers.push(Speaker { router_index, free_us, change_us: 1e6 / rate });
        }
        let began = self.plan.epochs.len();
        let (mut said, mut next) = (0_u64, BTreeMap::<usize, u16>::new());
        let prefixes = u64::from(vpn.prefixes);
        while said < u64::from(step.messages.0) {
            let site = *sites.choose(&mut self.chance)?;
            let size = (step.batch.draw(&mut self.chance) / PER_PREFIX).round().max(1.0) as u64;
            // No more than is missing: every prefix is said by all.
            let each = PER_PREFIX as u64 * sites.len() as u64;
            let missing = (u64::from(step.messages.0) - said).div_ceil(each).max(1);
            let number = next.entry(site).or_default();
            let mut routes = Vec::new();
            for _ in 0..size.min(missing).min(prefixes) {
                routes.push(SitePrefix { vpn_index: VPN, site, number: *number });
                *number = (*number + 1) % vpn.prefixes;
            }
            said += self.relabel(step, site, &routes, &mut speakers);
        }
        self.fit(step, began);
        for (router_index, reaction) in self.plan.epochs[began..].iter().flat_map(|e| &e.reactions)
        {
            self.free_us.insert(*router_index, reaction.end_us() + reaction.install_us);
        }
        Some(format!("{} provider edges say {said} mappings, as real ones did", sites.len()))
    }

    /// The prefixes get new labels; every speaker says so in its own time. Returns how many
    /// mappings that takes.
    fn relabel(
        &mut self,
        step: &Trace,
        site: usize,
        routes: &[SitePrefix],
        speakers: &mut [Speaker],
    ) -> u64 {
        let before = std::sync::Arc::clone(self.state());
        let state = before.relabelled(self.network, routes);
        let (mut said, mut reactions) = (0, Reactions::new());
        for speaker in speakers {
            let router_index = speaker.router_index;
            let mut units = vec![Unit::Vpn(VPN)];
            if self.network.topology.edges[site] != router_index {
                units.push(Unit::Fec(site));
            }
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
            let reaction = Reaction { start_us, install_us, units, ..Reaction::default() };
            reactions.insert(router_index, reaction);
        }
        let act = self.plan.acts.len() - 1;
        let state = std::sync::Arc::new(state);
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
