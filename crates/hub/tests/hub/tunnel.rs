//! A machine says that it reaches its hub through a tunnel that no lifeline keeps.

use cordon_model::finding::Level;
use cordon_model::measure::Isolation;
use cordon_model::policy::Mode;
use cordon_model::record::Deed;
use cordon_model::wire::{Coverage, FromAgent, HUB_LINK};

use super::support::{Site, admin, found, until};

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

/// Also over a restart: a machine that says less for a while slips nothing in between.
#[tokio::test(flavor = "multi_thread")]
async fn its_word_and_what_that_lowers_are_in_the_ledger_and_shown_with_the_machine() {
    let mut site = Site::start().await;
    let mut policy = (*site.hub().policy()).clone();
    policy.mode = Mode::Act;
    policy.responses.iter_mut().for_each(|response| response.isolation = Isolation::Full);
    site.hub().set_policy(policy, &admin()).await.unwrap();
    let tier = Some(cordon_model::asset::ClinicalTier::None);
    let mut machine = site.machine_of("office-1", tier).await;
    let of = async |site: &Site, deed: Deed| {
        let records = site.hub().ledger_records(0..1_000).await.unwrap_or_default();
        let its =
            records.into_iter().map(|entry| entry.record).filter(|record| record.deed == deed);
        its.map(|record| record.detail).collect::<Vec<_>>()
    };
    assert_eq!(site.hub().machines()[0].lowers, None);
    machine.say(&FromAgent::Coverage(way(true))).await;
    until("its word is in the ledger", || async { of(&site, Deed::WaySaid).await.len() == 1 })
        .await;
    assert!(of(&site, Deed::WaySaid).await[0].contains("through tunnel wg0"));
    machine.report(found("office-1", Level::High, 1)).await;
    let order = machine.order().await;
    assert_eq!(order.instruction.isolation(), Some(Isolation::Segment), "and not in full");
    until("so is what it lowered", || async {
        let lowered = of(&site, Deed::ResponseLowered).await;
        lowered.len() == 1 && lowered[0].contains("full isolation → segment")
    })
    .await;
    let lowers = site.hub().machines()[0].lowers.unwrap();
    assert!(lowers.times == 1 && lowers.in_words().contains("so far once"), "{lowers:?}");
    machine.disconnect();
    site.restart().await;
    assert_eq!(site.hub().machines()[0].lowers, Some(lowers), "it is kept");
    // It is back, and says nothing of a tunnel any more.
    machine.connect().await.unwrap();
    until("that is another word", || async { of(&site, Deed::WaySaid).await.len() == 2 }).await;
    assert_eq!(site.hub().machines()[0].lowers, None);
}
