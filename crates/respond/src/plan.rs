//! From a finding to what may be done about it besides isolating its machine.
//!
//! The one idea: a target is only ever what the finding itself names (its process, that process's
//! program), so that nobody's typing, and no machine's word about another, chooses what is stopped.

use cordon_model::action::{Action, ActionKind, Denied, FilePath, FileTarget, ProcessTarget};
use cordon_model::finding::Finding;
use cordon_model::time::BootId;

/// The action of `kind` that `finding` calls for, on its machine in its `boot`; `None` where the finding
/// names no target for it, or the kind is one that only people aim.
#[must_use]
pub fn action_for(kind: ActionKind, finding: &Finding, boot: Option<&BootId>) -> Option<Action> {
    let process = finding.process.as_ref()?;
    let target = || Some(ProcessTarget { boot: boot?.clone(), process: process.clone() });
    let image = || FilePath::new(process.image.as_bytes());
    let action = match kind {
        ActionKind::Freeze => Action::Freeze(target()?),
        ActionKind::Kill => Action::Kill(target()?),
        ActionKind::Quarantine => Action::Quarantine(FileTarget { path: image(), sha256: None }),
        ActionKind::Deny => Action::Deny(Denied::Path(image())),
        ActionKind::Isolate
        | ActionKind::Block
        | ActionKind::DisableAccount
        | ActionKind::Collect
        | ActionKind::PutBack => return None,
    };
    action.check().is_ok().then_some(action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::event::RawEvent;
    use cordon_model::finding::{Level, ProcessRef, RuleRef};
    use cordon_model::ids::FindingId;
    use cordon_model::time::{BootNanos, UtcNanos};

    fn finding(process: Option<ProcessRef>) -> Finding {
        let (id, level) = (FindingId::of("rule", "host", &[0; 32]), Level::High);
        Finding {
            id,
            rule: RuleRef { id: "rule".into(), title: "a rule".into(), level, tags: vec![] },
            host: "host".into(),
            time: UtcNanos::from_unix_nanos(0),
            boot_time: None,
            process,
            matched: vec![],
            raw: RawEvent { json: "{}".into(), is_cut: false },
            raw_sha256: [0; 32],
        }
    }

    #[test]
    fn a_target_is_what_the_finding_names_and_nothing_else() {
        let worm = ProcessRef { pid: 77, started: BootNanos(5), image: "/tmp/worm".into() };
        let boot = BootId("a".into());
        let named = finding(Some(worm.clone()));
        let freeze = action_for(ActionKind::Freeze, &named, Some(&boot));
        assert_eq!(
            freeze,
            Some(Action::Freeze(ProcessTarget { boot: boot.clone(), process: worm }))
        );
        assert_eq!(action_for(ActionKind::Freeze, &named, None), None, "of which boot?");
        assert!(action_for(ActionKind::Quarantine, &named, None).is_some());
        for of_people in [ActionKind::Block, ActionKind::PutBack] {
            assert_eq!(action_for(of_people, &named, Some(&boot)), None);
            assert!(!of_people.follows_from_a_finding(), "no policy may ask for it");
        }
        assert_eq!(action_for(ActionKind::Kill, &finding(None), Some(&boot)), None);
        let odd = ProcessRef { pid: 1, started: BootNanos(0), image: "init".into() };
        for kind in [ActionKind::Kill, ActionKind::Quarantine] {
            assert_eq!(action_for(kind, &finding(Some(odd.clone())), Some(&boot)), None);
        }
    }
}
