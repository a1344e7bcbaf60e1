//! ATT&CK in a rule's tags: which tactic a finding is grouped under, and which techniques it shows.

/// A tactic of ATT&CK for Enterprise, in the order in which an intrusion usually goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tactic(usize);

/// Tag and name. `defense-evasion` was divided into stealth and defence impairment in 2025; rules use both
/// the old and the new words.
const TACTICS: [(&str, &str); 16] = [
    ("reconnaissance", "Reconnaissance"),
    ("resource-development", "Resource development"),
    ("initial-access", "Initial access"),
    ("execution", "Execution"),
    ("persistence", "Persistence"),
    ("privilege-escalation", "Privilege escalation"),
    ("defense-evasion", "Defence evasion"),
    ("stealth", "Stealth"),
    ("defense-impairment", "Defence impairment"),
    ("credential-access", "Credential access"),
    ("discovery", "Discovery"),
    ("lateral-movement", "Lateral movement"),
    ("collection", "Collection"),
    ("command-and-control", "Command and control"),
    ("exfiltration", "Exfiltration"),
    ("impact", "Impact"),
];

impl Tactic {
    /// The tactic that a rule with `tags` is grouped under: the latest one that it names, because that is
    /// how far the attack has come if the rule is right. Sorted after all others if it names none.
    pub(crate) fn of(tags: &[String]) -> Self {
        Self::all_of(tags).max().unwrap_or(Self(TACTICS.len()))
    }

    /// All tactics that `tags` name.
    pub(crate) fn all_of(tags: &[String]) -> impl Iterator<Item = Self> {
        tags.iter().filter_map(|tag| {
            let name = tag.strip_prefix("attack.")?.replace('_', "-");
            TACTICS.iter().position(|(known, _)| *known == name).map(Self)
        })
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        TACTICS.get(self.0).map_or("No tactic named", |(_, name)| name)
    }
}

/// All tactics, in the order of an intrusion.
pub(crate) fn tactics() -> impl Iterator<Item = Tactic> {
    (0..TACTICS.len()).map(Tactic)
}

/// The ids of the techniques that `tags` name, as ATT&CK writes them: `T1059.001`.
pub(crate) fn technique_ids(tags: &[String]) -> impl Iterator<Item = String> {
    let number = |tag: &'_ String| tag.strip_prefix("attack.t").map(str::to_owned);
    let is_technique = |number: &String| number.starts_with(|first: char| first.is_ascii_digit());
    tags.iter().filter_map(number).filter(is_technique).map(|number| format!("T{number}"))
}

/// The techniques that `tags` name: `T1490 T1059.001`.
pub(crate) fn techniques(tags: &[String]) -> String {
    technique_ids(tags).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn a_rule_stands_under_the_latest_tactic_it_names() {
        let tactic = |names| Tactic::of(&tags(names)).name();
        assert_eq!(tactic(&["attack.execution", "attack.impact", "attack.t1490"]), "Impact");
        assert_eq!(tactic(&["attack.privilege_escalation"]), "Privilege escalation");
        assert_eq!(tactic(&["cve.2021-44228", "attack.g0007"]), "No tactic named");
        assert!(Tactic::of(&tags(&["attack.impact"])) < Tactic::of(&[]));
    }

    #[test]
    fn techniques_are_written_as_attack_writes_them() {
        let tags = tags(&["attack.execution", "attack.t1059.001", "attack.t1490", "attack.s0002"]);
        assert_eq!(techniques(&tags), "T1059.001 T1490");
    }
}
