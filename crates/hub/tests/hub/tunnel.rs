//! A machine says that it reaches its hub through a tunnel that no lifeline keeps.

use cordon_model::measure::Isolation;
use cordon_model::wire::{Coverage, FromAgent, HUB_LINK};

use super::support::{Site, until};

fn way(is_cut: bool) -> Vec<Coverage> {
    let isolation = Coverage { what: "isolation".into(), by: Some("nftables".into()), gap: None };
    let (what, by) = (HUB_LINK.to_owned(), (!is_cut).then(|| "wg0 (wireguard)".to_owned()));
    let gap = is_cut.then(|| "this machine reaches its hub through tunnel wg0".to_owned());
    vec![isolation, Coverage { what, by, gap }]
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_shown_as_a_gap_and_said_before_anybody_isolates_it_in_full() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let (hub, id) = (site.hub(), machine.id());
    let said = |isolation| hub.preview(id, isolation).unwrap().cautions.join("\n");
    assert!(!said(Isolation::Full).contains("tunnel"));
    machine.say(&FromAgent::Coverage(way(true))).await;
    until("the gap is shown", || async { hub.machines()[0].gaps.len() == 1 }).await;
    assert!(hub.machines()[0].gaps[0].loses_the_hub());
    let full = said(Isolation::Full);
    assert!(full.contains("through tunnel wg0") && full.contains("break-glass"), "{full}");
    assert!(!said(Isolation::Segment).contains("tunnel"), "it outlives that");
    // Its gateway is a lifeline by now.
    machine.say(&FromAgent::Coverage(way(false))).await;
    until("the gap is gone", || async { hub.machines()[0].gaps.is_empty() }).await;
    assert!(!said(Isolation::Full).contains("tunnel"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_it_may_say_of_itself_ends_its_link() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let many = std::iter::repeat_with(|| way(true)).take(40).flatten().collect();
    machine.say(&FromAgent::Coverage(many)).await;
    machine.goodbye().await;
    assert!(site.hub().machines()[0].gaps.is_empty());
    let refused = site.hub().status().await.unwrap().refused.messages;
    assert_eq!(refused, 1);
}
