//! Who is in the drill's hospital: machines by ward and clinical tier, and the flows that must live.
//!
//! The mix is fixed by position, so that every run of every seed has the same hospital: half office
//! machines, a third that support care, the rest clinical. Every machine that shows images keeps a
//! session to the PACS (DICOM, TCP 11112) open the whole time; cutting one of those counts as harm.

use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Transport};
use ipnet::IpNet;
use std::net::IpAddr;

/// DICOM's registered port (IANA: `dicom`, 11112).
pub const DICOM: u16 = 11112;
/// The service that the drill's worm spreads by: SMB, which WannaCry spread by.
pub const SMB: u16 = 445;

/// A machine of the drill.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its name: `m01`…
    pub name: String,
    /// Its ward or department.
    pub ward: &'static str,
    /// What it is.
    pub kind: &'static str,
    /// How directly patients depend on it.
    pub tier: ClinicalTier,
    /// Whether it holds a session to the PACS.
    pub shows_images: bool,
}

/// What stands in a hospital, as a repeating pattern of twenty.
const PATTERN: [(&str, &str, ClinicalTier, bool); 20] = [
    ("administration", "office PC", ClinicalTier::None, false),
    ("outpatients", "booking PC", ClinicalTier::Supports, true),
    ("administration", "office PC", ClinicalTier::None, false),
    ("radiology", "reporting workstation", ClinicalTier::Clinical, true),
    ("outpatients", "booking PC", ClinicalTier::Supports, true),
    ("administration", "office PC", ClinicalTier::None, false),
    ("emergency", "results viewer", ClinicalTier::Supports, true),
    ("administration", "office PC", ClinicalTier::None, false),
    ("theatres", "theatre display", ClinicalTier::LifeSustaining, true),
    ("outpatients", "booking PC", ClinicalTier::Supports, true),
    ("finance", "office PC", ClinicalTier::None, false),
    ("finance", "office PC", ClinicalTier::None, false),
    ("emergency", "results viewer", ClinicalTier::Supports, true),
    ("radiology", "CT console", ClinicalTier::Clinical, true),
    ("finance", "office PC", ClinicalTier::None, false),
    ("outpatients", "booking PC", ClinicalTier::Supports, true),
    ("emergency", "results viewer", ClinicalTier::Supports, true),
    ("finance", "office PC", ClinicalTier::None, false),
    ("radiology", "reporting workstation", ClinicalTier::Clinical, true),
    ("administration", "office PC", ClinicalTier::None, false),
];

/// A hospital of `count` machines.
#[must_use]
pub fn machines(count: usize) -> Vec<Machine> {
    (0..count)
        .map(|index| {
            let (ward, kind, tier, shows_images) = PATTERN[index % PATTERN.len()];
            Machine { name: format!("m{:02}", index + 1), ward, kind, tier, shows_images }
        })
        .collect()
}

impl Machine {
    /// The flows that containment of this machine must keep, with the PACS at `pacs`.
    #[must_use]
    pub fn lifelines(&self, pacs: IpAddr) -> Vec<Lifeline> {
        if !self.shows_images {
            return Vec::new();
        }
        vec![Lifeline {
            name: "DICOM to the PACS".into(),
            peer: IpNet::from(pacs),
            transport: Transport::Tcp,
            ports: PortRange::one(DICOM),
            direction: Direction::Outbound,
            signed_off_by: None,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drills_hospital_has_every_tier_and_lifelines_in_use() {
        let hospital = machines(20);
        for number in 0..4 {
            assert!(hospital.iter().any(|machine| machine.tier.number() == number));
        }
        assert!(hospital.iter().filter(|machine| machine.shows_images).count() >= 8);
    }
}
