//! How long a hub takes from a finding to the order on the same link, on loopback: the link's TLS, the
//! mind, the signer's sync and the way back.
//!
//! `cargo run --release -p cordon-hub --example finding_to_order -- [ROUNDS] [BUSY]`: each of ROUNDS
//! machines finds something once, while BUSY others report all the time.

#[path = "../tests/hub/support.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement may end in one"
)]
mod support;

use std::time::{Duration, Instant};

use cordon_model::finding::Level;
use cordon_model::policy::{Budget, Mode, Policy};
use support::{Site, admin, found};

#[expect(clippy::expect_used, reason = "a measurement may end in one")]
#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let rounds: usize = arguments.next().unwrap_or(40);
    let busy: usize = arguments.next().unwrap_or(0);
    let site = Site::start().await;
    let hub = site.hub().clone();
    // As much as the signer allows, so that the brake is not what is measured.
    let policy = Policy {
        mode: Mode::Act,
        budget: Budget { count: 50, window_seconds: 600, group_percent: 50 },
        ..(*hub.policy()).clone()
    };
    hub.set_policy(policy, &admin()).await.expect("the signer signs the policy");
    let rounds = rounds.min(50);
    let mut machines = Vec::new();
    for number in 0..rounds * 2 {
        machines.push(site.machine(&format!("office-{number}")).await);
    }
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..busy {
        let mut machine = site.machine(&format!("busy-{number}")).await;
        flood.spawn(async move {
            for event in 0_u32.. {
                let event = u8::try_from(event % 256).unwrap_or(0);
                machine.report(found(&format!("busy-{number}-{event}"), Level::Low, event)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut took = Vec::with_capacity(rounds);
    for (number, machine) in machines.iter_mut().take(rounds).enumerate() {
        let begun = Instant::now();
        machine.send(found(&format!("office-{number}"), Level::High, 1)).await;
        let order = machine.order().await;
        took.push(begun.elapsed());
        machine.carry_out(&order).await;
    }
    flood.shutdown().await;
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "finding to order: n {}, busy {busy}, ms: p50 {:.2}, p90 {:.2}, p99 {:.2}, max {:.2}",
        took.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
