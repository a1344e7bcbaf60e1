//! Of each document that the signer signs there is a line in its ledger (law 9).

use cordon_model::break_glass::{BreakGlassTerms, Hashing};

use super::*;

#[tokio::test]
async fn every_document_that_it_signs_is_in_its_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let hashing = Hashing { memory_kib: 256, passes: 1, lanes: 1 };
    let break_glass = BreakGlassTerms { hashing, ..BreakGlassTerms::default() };
    let policy = Policy { permits: 3, break_glass, ..act_policy() };
    client.set_policy(policy, ada()).await.unwrap();
    for number in [1, 2] {
        let kind = Some("ct".to_owned());
        let draft = Assignment { kind, ..assignment(number, Some(ClinicalTier::None)) };
        client.assign(draft, None, Some(ada())).await.unwrap();
    }
    assign(&client, 3, ClinicalTier::None).await;
    client.heard(machine(2), None).await.unwrap();
    let alone = client.guide(machine(1), None).await.unwrap();
    let guided = client.guide(machine(1), Some(machine(2))).await.unwrap();
    assert!(guided.revision > alone.revision);
    let again = client.guide(machine(1), Some(machine(2))).await.unwrap();
    assert_eq!(again.revision, guided.revision, "the same, and no second line");
    client.codes(machine(1)).await.unwrap();
    let permits = client.renew_permits().await.unwrap();
    let order = client.sign(by_policy(1, 1)).await.unwrap();
    signer.stop().await;
    let records = own_records(directory.path());
    let count = |deed: &Deed| records.iter().filter(|record| record.deed == *deed).count();
    let (policies, assigned) = (count(&Deed::PolicySet), count(&Deed::Assigned));
    assert_eq!((policies, assigned, count(&Deed::CodesSigned)), (1, 3, 1));
    assert_eq!(count(&Deed::Ordered(order.id)), 1);
    assert!(!permits.is_empty());
    assert!(permits.iter().all(|permit| count(&Deed::Permitted(permit.id)) == 1));
    let told = records.iter().filter(|record| record.deed == Deed::BedsideSaid);
    let told: Vec<&str> = told.map(|record| record.detail.as_str()).collect();
    let line = |revision: u64, who: &str| {
        format!("revision {revision}, the next of its kind that works: {who}; said by the hub")
    };
    assert_eq!(told, [line(alone.revision, "none"), line(guided.revision, "pc-2 in ward 2")]);
}
