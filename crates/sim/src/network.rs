//! A network that loses, delays, repeats and tears, as the seed says.
//!
//! A link is one TCP connection: it keeps order while it lives. What is lost tears it, and each side notices
//! in its own time; what was on its way then may still arrive, over a link that is no longer the present
//! one. Either side may say a thing again, within seconds, as whoever is not sure that it arrived; so may hub
//! and signer. Orders are also repeated much later and out of any order, as if somebody had recorded and
//! replayed them. So messages come out of their order, though no link disorders them, and each that does is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::random::Random;

/// Where a message stands among those of its way: its link, and its number there. Nobody's replays stand before all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) link: u64,
    number: u64,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    ToHub,
    ToAgent,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives then, and stands there among the others.
    Arrives(Duration, Place),
    /// It is lost, and the link with it; the sender notices then.
    Tears(Duration),
    /// It vanishes, as all do until the partition ends; the sender notices then.
    Vanishes(Duration),
}

/// The network's own state.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// When the last message of each link and way arrives, and its number.
    last: BTreeMap<(u64, Way), (Duration, u64)>,
    /// The latest that each machine, or the hub of it, has heard.
    heard: BTreeMap<(usize, Way), Place>,
    links: u64,
}

impl Network {
    pub(crate) fn new_link(&mut self) -> u64 {
        self.links += 1;
        self.links
    }

    pub(crate) fn fate(
        &mut self,
        link: u64,
        way: Way,
        now: Duration,
        is_cut_off: bool,
        one_lost_in: u64,
        random: &mut Random,
    ) -> Fate {
        if is_cut_off {
            return Fate::Vanishes(now + random.millis(800, 4_000));
        }
        if random.once_in(one_lost_in) {
            return Fate::Tears(now + random.millis(5, 2_000));
        }
        let slow = if random.once_in(20) { random.millis(50, 900) } else { Duration::ZERO };
        let arrives = now + random.millis(1, 20) + slow;
        let (last, number) = self.last.entry((link, way)).or_default();
        *last = arrives.max(*last + Duration::from_nanos(1));
        *number += 1;
        Fate::Arrives(*last, Place { link, number: *number })
    }

    /// A message of this place is heard; how it came out of its order, if it did.
    pub(crate) fn heard(&mut self, machine: usize, way: Way, place: Place) -> Option<&'static str> {
        let latest = self.heard.entry((machine, way)).or_default();
        let before = std::mem::replace(latest, place.max(*latest));
        if place.link < before.link {
            Some("messages out of their order, of an older link")
        } else {
            (place < before)
                .then_some("messages out of their order, after a later one of their link")
        }
    }
}
