//! What each step of a script does to the network.
//!
//! In:   a step and its numbers; what works, what carries the most.
//! Out:  epochs, and in words what they hit.
//! Law:  epochs of an act come in the order of their offsets.
//! Not:  what follows from what is down, who reacts when (`plan`).

use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::{Cut, Planner};
use crate::scenario::{Break, Flap, Maintenance, Millis, Restart, Trickle, VpnChurn};
use crate::services::l3vpn::{self, SitePrefix};
use crate::state::State;

/// Labels that an act releases and gives to others, where that is asked for.
const LABELS_REUSED: usize = 8;
/// From one prefix that is withdrawn to the next.
const REUSE_PAUSE_US: i64 = 150_000;
/// From the release of a label until it is given again: with the time that edges take to react,
/// below a second.
const REUSED_AFTER_US: std::ops::Range<i64> = 20_000..400_000;
/// How long a link of a trickle is down, as a part of the pause to the next event.
const TRICKLE_DOWN_SHARE: f64 = 0.4;

impl Planner<'_> {
    /// `around`: only links that share an end with this one, as in one conduit out of a place.
    pub(super) fn links_down(&mut self, step: &Break, around: Option<usize>) -> Option<String> {
        let topology = &self.network.topology;
        let shares = |link: &usize| {
            around.is_none_or(|around| {
                let ends = topology.links[around].ends;
                topology.links[*link].ends.iter().any(|end| ends[0] == *end)
            })
        };
        let links: Vec<usize> =
            self.trunks().into_iter().filter(shares).take(step.count.0.into()).collect();
        let named: Vec<String> = links.iter().map(|link| self.link_name(*link)).collect();
        (!links.is_empty()).then_some(())?;
        self.epoch(0, |down| down.links.extend(&links));
        let mut what = format!("link {} down", named.join(" and "));
        if let Some(after) = step.restore_after_ms {
            self.epoch(after.micros(), |down| {
                down.links.retain(|link| !links.contains(link));
            });
            what += " and up again";
        }
        Some(what)
    }

    pub(super) fn nodes_down(&mut self, step: &Break) -> Option<String> {
        let mut routers = self.cores();
        routers.truncate(step.count.0.into());
        (!routers.is_empty()).then_some(())?;
        let named: Vec<String> =
            routers.iter().map(|router| self.network.topology.name(*router)).collect();
        self.epoch(0, |down| down.routers.extend(&routers));
        let back_us = step.restore_after_ms.map(Millis::micros);
        let cut = Cut { routers: routers.iter().copied().collect(), at_us: 0, back_us };
        self.act().cuts.push(cut);
        let mut what = format!("router {} down", named.join(" and "));
        if let Some(back_us) = back_us {
            self.epoch(back_us, |down| down.routers.retain(|router| !routers.contains(router)));
            what += " and up again";
        }
        Some(what)
    }

    pub(super) fn flap(&mut self, step: &Flap) -> Option<String> {
        let link = *self.trunks().first()?;
        let (mut offset_us, mut up_us) = (0, step.up_ms.micros());
        for _ in 0..step.times.0 {
            self.epoch(offset_us, |down| {
                down.links.insert(link);
            });
            offset_us += step.down_ms.micros();
            self.epoch(offset_us, |down| {
                down.links.remove(&link);
            });
            offset_us += up_us;
            up_us = (up_us * 2).min(step.up_ms_max.micros());
        }
        Some(format!("link {} flaps {} times", self.link_name(link), step.times.0))
    }

    pub(super) fn maintain(&mut self, step: &Maintenance) -> Option<String> {
        let mut routers = self.cores();
        routers.truncate(step.routers.0.into());
        (!routers.is_empty()).then_some(())?;
        let mut offset_us = 0;
        for router in &routers {
            self.epoch(offset_us, |down| {
                down.drained.insert(*router);
            });
            offset_us += step.each_ms.micros();
            self.epoch(offset_us, |down| {
                down.drained.remove(router);
            });
            offset_us += step.each_ms.micros();
        }
        Some(format!("{} routers drained and restored, one after the other", routers.len()))
    }

    pub(super) fn restart(&mut self, step: &Restart) -> String {
        let gone = self.state().down.routers.clone();
        let all = (0..self.network.topology.routers.len()).filter(|router| !gone.contains(router));
        let back_us = step.away_ms.micros();
        let cut = Cut { routers: all.collect(), at_us: 0, back_us: Some(back_us) };
        self.act().length_us = back_us;
        self.act().cuts.push(cut);
        "every session breaks, and every router comes back at once".to_owned()
    }

    pub(super) fn trickle(&mut self, step: &Trickle) -> Option<String> {
        let works = |link: &usize| self.state().paths.carries(*link);
        let links: Vec<usize> = (0..self.network.topology.links.len()).filter(works).collect();
        let events = i64::from(step.events.0);
        let pause_us = (step.over_ms.micros() / events).max(2);
        for event in 0..events {
            let link = *links.choose(&mut self.chance)?;
            // Anywhere in the first half of its slot, back before the slot ends.
            let offset_us = event * pause_us + self.chance.random_range(0..=pause_us / 2);
            self.epoch(offset_us, |down| {
                down.links.insert(link);
            });
            let down_us = (pause_us as f64 * TRICKLE_DOWN_SHARE) as i64;
            self.epoch(offset_us + down_us, |down| {
                down.links.remove(&link);
            });
        }
        Some(format!("{events} links fail and come back, one at a time"))
    }

    pub(super) fn churn(&mut self, step: &VpnChurn) -> Option<String> {
        let routes: Vec<SitePrefix> = l3vpn::routes(&self.network.vpns).collect();
        (self.network.churns && !routes.is_empty()).then_some(())?;
        let events = i64::from(step.events.0);
        let pause_us = (step.over_ms.micros() / events).max(1);
        for event in 0..events {
            let route = *routes.choose(&mut self.chance)?;
            let offset_us = event * pause_us + self.chance.random_range(0..pause_us);
            self.signal_until(offset_us);
            let state = self.state().toggled(self.network, route);
            self.tell_vpn(offset_us, route, state);
        }
        Some(format!("{events} times a prefix of a VPN is announced or withdrawn"))
    }

    /// The edges of the VPN come to a state in which one of its prefixes is told anew.
    fn tell_vpn(&mut self, offset_us: i64, route: SitePrefix, state: State) {
        let edges = &self.network.topology.edges;
        let sites = self.network.vpns[route.vpn_index].sites.iter();
        let only = sites.map(|site| edges[*site]).collect();
        let witness = BTreeSet::from([edges[route.site]]);
        self.reach(offset_us, state, witness, Some(&only));
    }

    /// Behind the last event of the act: labels of prefixes are released, and given to other
    /// prefixes of the same edge before a second is over.
    pub(super) fn reuse_labels(&mut self) -> Option<String> {
        let network = self.network;
        let works = |edge: usize| !self.state().down.routers.contains(&edge);
        let routes: Vec<SitePrefix> = l3vpn::routes(&network.vpns)
            .filter(|route| works(network.topology.edges[route.site]))
            .collect();
        let last = self.plan.epochs.last().filter(|epoch| epoch.act + 1 == self.plan.acts.len());
        let mut offset_us = last.map_or(0, |epoch| epoch.offset_us);
        for _ in 0..LABELS_REUSED {
            let announced = |route: &&SitePrefix| self.state().announced.contains_key(route);
            let held: Vec<SitePrefix> = routes.iter().filter(announced).copied().collect();
            let from = *held.choose(&mut self.chance)?;
            let is_other = |route: &&SitePrefix| route.site == from.site && **route != from;
            let others: Vec<SitePrefix> = routes.iter().filter(is_other).copied().collect();
            let to = *others.choose(&mut self.chance)?;
            if self.state().announced.contains_key(&to) {
                offset_us += REUSE_PAUSE_US;
                self.signal_until(offset_us);
                self.tell_vpn(offset_us, to, self.state().toggled(network, to));
            }
            let label = *self.state().announced.get(&from)?;
            offset_us += REUSE_PAUSE_US;
            self.signal_until(offset_us);
            self.tell_vpn(offset_us, from, self.state().toggled(network, from));
            offset_us += self.chance.random_range(REUSED_AFTER_US);
            self.signal_until(offset_us);
            self.tell_vpn(offset_us, to, self.state().announcing(network, to, label));
        }
        Some(format!("; {LABELS_REUSED} labels released and given to others at once"))
    }
}
