//! What the hub is told of this machine whenever it is linked: who it is, what it sees, how it is, and by which way
//! it reaches the hub.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use cordon_model::asset::Assignment;
use cordon_model::holds::Holds;
use cordon_model::wire::{Coverage, Hello, Status};
use tokio::sync::watch;

use super::{Agent, locked};
use crate::contain::moment::Clocks;
use crate::contain::way;

/// What the link's hello and status are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) last_order: u64,
    pub(super) assignment: u64,
    pub(super) policy: u64,
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
    coverage: &watch::Sender<Vec<Coverage>>,
    host: &str,
    clocks: &Clocks,
    is_helped: bool,
) -> Box<dyn Fn(Option<IpAddr>) -> Hello + Send + Sync> {
    let (view, host, clocks) = (Arc::clone(view), host.to_owned(), clocks.clone());
    let coverage = coverage.clone();
    Box::new(move |hub| {
        // Asked now: while there was no link the way may have become another, and what waits at the hub is
        // sent by what the hello says.
        coverage.send_if_modified(|coverage| {
            locked(&view).hub = hub;
            let given = locked(&view).given.clone();
            let told = given.filter(|_| is_helped).map(|given| way::told(&given, hub));
            told.is_some_and(|told| replaced(coverage, told))
        });
        let coverage = coverage.borrow().clone();
        let view = locked(&view);
        Hello {
            version: cordon_model::wire::VERSION,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            host: host.clone(),
            boot: clocks.now().boot,
            last_order: view.last_order,
            assignment: view.assignment,
            policy: view.policy,
            coverage,
        }
    })
}

/// Puts what is told now of the way to the hub in the place of what was. Whether that is another word.
fn replaced(coverage: &mut Vec<Coverage>, told: Option<Coverage>) -> bool {
    let now = with_way(coverage, told);
    let is_news = now != *coverage;
    *coverage = now;
    is_news
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
    /// Looked at and said in one, as a hello does: what was seen first is not said last.
    pub(super) fn look_at_way(&mut self) {
        if self.helper.is_none() {
            return;
        }
        let given = self.core.assignment();
        self.coverage.send_if_modified(|coverage| {
            let hub = locked(&self.view).hub;
            replaced(coverage, given.and_then(|given| way::told(given, hub)))
        });
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
            watched: Vec::new(),
            hub: Vec::new(),
        };
        let coverage = |what: &str| {
            let gap = Some("by what was so before".to_owned());
            Coverage { what: what.into(), by: None, gap }
        };
        let before = vec![coverage("isolation"), coverage(HUB_LINK)];
        let view = Arc::new(Mutex::new(View { given: Some(given), ..View::default() }));
        let covered = watch::channel(before.clone()).0;
        let clocks = Clocks::of_this_boot().unwrap();
        let here = Some(IpAddr::from([127, 0, 0, 1]));
        // Without a helper nothing is isolated, and nothing asked.
        assert_eq!(hello_from(&view, &covered, "m01", &clocks, false)(here).coverage, before);
        let said = hello_from(&view, &covered, "m01", &clocks, true)(here).coverage;
        assert_eq!(said, before[..1]);
        assert_eq!(*covered.borrow(), said, "what is told later is told of this");
        assert_eq!(locked(&view).hub, here);
    }
}
