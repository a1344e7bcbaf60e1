//! `cordon policy`: show what holds, see what would become of it, set it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_model::policy::{Mode, Policy};
use cordon_respond::weakening::{self, ENDS_SELF_DEFENCE};

use crate::cli::StateArg;
use crate::control::{ask_at, block_on, plain, tell, tell_night, unexpected};
use crate::keeper::{self, Wish};

/// `cordon policy`
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    what: PolicyCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum PolicyCommand {
    /// Print the policy in force, as TOML
    Show {
        #[command(flatten)]
        state: StateArg,
    },
    /// Put a policy in force, from a TOML file as `show` prints it (`-`: standard input)
    Apply {
        #[command(flatten)]
        state: StateArg,
        /// The file. Organisation and revision in it are ignored.
        file: PathBuf,
        /// Only show what would change, and whether it takes root on the hub's machine.
        #[arg(long)]
        preview: bool,
    },
    /// Set how much is done without asking: observe, ask or act
    Mode {
        #[command(flatten)]
        state: StateArg,
        /// The mode.
        mode: String,
        /// Only show what would change, and whether it takes root on the hub's machine.
        #[arg(long)]
        preview: bool,
    },
}

/// Shows or sets the policy.
pub fn policy(args: &PolicyArgs) -> Result<()> {
    let (state, wish, preview) = match &args.what {
        PolicyCommand::Show { state } => {
            return match ask_at(state, Request::Policy)? {
                Answer::Policy(policy) => tell(&toml::to_string_pretty(&*policy)?),
                other => unexpected(&other),
            };
        }
        PolicyCommand::Apply { state, file, preview } => {
            (state, Wish::Policy(Box::new(read(file)?)), *preview)
        }
        PolicyCommand::Mode { state, mode, preview } => (state, Wish::Mode(named(mode)?), *preview),
    };
    if preview {
        let preview = block_on(keeper::preview_policy(&state.layout(), wish))?;
        let mut words = changes(&preview.known, &preview.would)?;
        if weakening::ends_self_defence(&preview.known, &preview.would) {
            words += &format!("NOTE: {ENDS_SELF_DEFENCE}\n");
        }
        return tell(&(words + &keeper::leave_words(preview.weaker.as_deref())));
    }
    let (answer, ends) = block_on(keeper::set_policy(&state.layout(), wish))?;
    match answer {
        Answer::PolicySet { revision, mode, night } => {
            let mode = format!("{mode:?}").to_lowercase();
            tell(&format!("mode is now {mode} (policy of revision {revision})\n"))?;
            if ends {
                tell(&format!("NOTE: {ENDS_SELF_DEFENCE}\n"))?;
            }
            tell_night(night.as_ref())
        }
        other => unexpected(&other),
    }
}

fn read(file: &Path) -> Result<Policy> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        let read = std::io::stdin().read_to_string(&mut text);
        read.context("reading standard input: nothing was changed")?;
    } else {
        text = std::fs::read_to_string(file)
            .with_context(|| format!("{}: nothing was changed", file.display()))?;
    }
    toml::from_str(&text).with_context(|| format!("{}: nothing was changed", file.display()))
}

fn named(mode: &str) -> Result<Mode> {
    Ok(match mode {
        "observe" => Mode::Observe,
        "ask" => Mode::Ask,
        "act" => Mode::Act,
        other => bail!("{other:?} is no mode: use observe, ask or act. Nothing was changed"),
    })
}

/// What would be another value, one line each, by the names that the file has for it.
fn changes(known: &Policy, would: &Policy) -> Result<String> {
    let [known, would] = [lines(known)?, lines(would)?];
    let names: BTreeSet<&String> = known.keys().chain(would.keys()).collect();
    let not_said = "(not said)".to_owned();
    let changed = names.into_iter().filter(|name| known.get(*name) != would.get(*name));
    let words: String = changed
        .map(|name| {
            let [was, is] =
                [&known, &would].map(|values| plain(values.get(name).unwrap_or(&not_said)));
            format!("  {name}: {was} would become {is}\n", name = plain(name))
        })
        .collect();
    Ok(match words.is_empty() {
        true => "nothing would change\n".to_owned(),
        false => format!("would change (nothing is changed yet):\n{words}"),
    })
}

/// Each value of a policy under its whole name.
fn lines(policy: &Policy) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(String::new(), toml::Value::try_from(policy)?)];
    while let Some((name, value)) = waiting.pop() {
        match value {
            toml::Value::Table(table) => waiting.extend(table.into_iter().map(|(key, value)| {
                (if name.is_empty() { key } else { format!("{name}.{key}") }, value)
            })),
            toml::Value::Array(values) if values.iter().any(toml::Value::is_table) => {
                let numbered = (1..).zip(values);
                waiting
                    .extend(numbered.map(|(number, value)| (format!("{name}[{number}]"), value)));
            }
            value => {
                found.insert(name, value.to_string());
            }
        }
    }
    // Whose it is and its number are not said by whoever sets it.
    found.retain(|name, _| name != "organisation" && name != "revision");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_is_named_as_the_file_names_it_and_nothing_else() {
        let known = Policy::default_for("RJ1".parse().unwrap());
        assert_eq!(changes(&known, &known).unwrap(), "nothing would change\n");
        let mut would = Policy { mode: Mode::Act, revision: 9, ..known.clone() };
        would.budget.count += 1;
        would.responses.pop();
        let said = changes(&known, &would).unwrap();
        assert!(said.contains("  budget.count: 5 would become 6\n"), "{said}");
        assert!(said.contains("  mode: \"ask\" would become \"act\"\n"), "{said}");
        assert!(said.contains("would become (not said)"), "{said}");
        assert!(!said.contains("revision"), "{said}");
    }
}
