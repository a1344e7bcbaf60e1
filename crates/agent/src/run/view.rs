//! What the hub is told of this machine whenever it is linked: who it is, what it sees, how it is, and by which way
//! it reaches the hub.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use cordon_model::asset::Assignment;
use cordon_model::holds::Holds;
use cordon_model::wire::{Coverage, FromAgent, Hello, Status};

use super::{Agent, locked};
use crate::contain::moment::Clocks;
use crate::contain::way;

/// What the link's hello and status are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) last_order: u64,
    pub(super) assignment: u64,
    pub(super) policy: u64,
    pub(super) coverage: Vec<Coverage>,
    /// Where the hub is and what an isolation keeps, for the way there.
    pub(super) given: Option<Assignment>,
    /// The address that the present link stands on, or the last one stood on.
    pub(super) hub: Option<IpAddr>,
    pub(super) status: Pulse,
}

/// [`Status`] without its time.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    pub(super) holds: Holds,
    pub(super) rules: u32,
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) break_glass: u64,
    pub(super) guidance: u64,
}

impl Default for Pulse {
    fn default() -> Self {
        let why = "the privileged helper has not been asked yet".to_owned();
        Self {
            holds: Holds::Unknown { why },
            rules: 0,
            events: 0,
            lost: 0,
            break_glass: 0,
            guidance: 0,
        }
    }
}

/// `coverage`, with what there is to say now of the way to the hub.
fn with_way(coverage: &[Coverage], told: Option<Coverage>) -> Vec<Coverage> {
    coverage.iter().filter(|one| !way::is_told_by(one)).cloned().chain(told).collect()
}

pub(super) fn hello_from(
    view: &Arc<Mutex<View>>,
    host: &str,
    clocks: &Clocks,
    is_helped: bool,
) -> Box<dyn Fn(Option<IpAddr>) -> Hello + Send + Sync> {
    let (view, host, clocks) = (Arc::clone(view), host.to_owned(), clocks.clone());
    Box::new(move |hub| {
        let given = locked(&view).given.clone();
        // Asked now: while there was no link the way may have become another, and what waits at the hub is
        // sent by what the hello says.
        let told = given.filter(|_| is_helped).map(|given| way::told(&given, hub));
        let mut view = locked(&view);
        view.hub = hub;
        if let Some(told) = told {
            view.coverage = with_way(&view.coverage, told);
        }
        Hello {
            version: cordon_model::wire::VERSION,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            host: host.clone(),
            boot: clocks.now().boot,
            last_order: view.last_order,
            assignment: view.assignment,
            policy: view.policy,
            coverage: view.coverage.clone(),
        }
    })
}

pub(super) fn status_from(
    view: &Arc<Mutex<View>>,
    clocks: &Clocks,
) -> Box<dyn Fn() -> Status + Send + Sync> {
    let (view, clocks) = (Arc::clone(view), clocks.clone());
    Box::new(move || {
        let view = &locked(&view).status;
        Status {
            at_boot: clocks.now().at,
            holds: view.holds.clone(),
            rules: view.rules,
            events: view.events,
            lost: view.lost,
            break_glass: view.break_glass,
            guidance: view.guidance,
        }
    })
}

impl Agent {
    /// Tells the hub, where it has changed, whether a full isolation would leave this machine its way there.
    pub(super) fn look_at_way(&mut self) {
        if self.helper.is_none() {
            return;
        }
        let hub = locked(&self.view).hub;
        let told = self.core.assignment().and_then(|given| way::told(given, hub));
        let mut view = locked(&self.view);
        let coverage = with_way(&view.coverage, told);
        // One that can't be said now is tried again.
        if coverage != view.coverage
            && self.say.try_send(FromAgent::Coverage(coverage.clone())).is_ok()
        {
            view.coverage = coverage;
        }
    }
}

#[cfg(test)]
mod tests {
    use cordon_model::asset::Protected;
    use cordon_model::ids::MachineId;
    use cordon_model::time::UtcNanos;
    use cordon_model::wire::HUB_LINK;

    use super::*;

    /// What waits at the hub is sent by what the hello says.
    #[test]
    fn a_hello_says_the_way_of_now_and_not_the_one_of_before() {
        let given = Assignment {
            organisation: "RJ1".parse().unwrap(),
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            revision: 1,
            name: "m01".into(),
            tier: None,
            kind: None,
            group: None,
            lifelines: Vec::new(),
            names: Vec::new(),
            protected: Protected::default(),
            hub: Vec::new(),
        };
        let coverage = |what: &str| {
            let gap = Some("by what was so before".to_owned());
            Coverage { what: what.into(), by: None, gap }
        };
        let before = vec![coverage("isolation"), coverage(HUB_LINK)];
        let view = View { coverage: before.clone(), given: Some(given), ..View::default() };
        let view = Arc::new(Mutex::new(view));
        let clocks = Clocks::of_this_boot().unwrap();
        let here = Some(IpAddr::from([127, 0, 0, 1]));
        // Without a helper nothing is isolated, and nothing asked.
        assert_eq!(hello_from(&view, "m01", &clocks, false)(here).coverage, before);
        let said = hello_from(&view, "m01", &clocks, true)(here).coverage;
        assert_eq!(said, before[..1]);
        assert_eq!(locked(&view).hub, here);
    }
}
