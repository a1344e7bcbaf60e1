//! The Sigma engine: rules to a plan, a plan against an event, and why. No input or output.
//!
//! ```
//! use cordon_detect::Compiler;
//! use cordon_model::event::{Event, Source, Value};
//!
//! let mut compiler = Compiler::new();
//! compiler.add_yaml("shadow.yml", r"
//! title: Shadow copies deleted
//! logsource: { product: windows, category: process_creation }
//! detection:
//!     tool:
//!         Image|endswith: '\vssadmin.exe'
//!         CommandLine|contains|all: [delete, shadows]
//!     condition: tool
//! level: high
//! ");
//! let (rules, refusals) = compiler.compile();
//! assert!(refusals.is_empty());
//!
//! // An intake looks each field's name up once; what no rule reads needs no place in the event.
//! let field = |name| rules.fields().find(name).expect("the rule reads it");
//! let event = Event {
//!     source: Source {
//!         product: Some("windows".into()),
//!         category: Some("process_creation".into()),
//!         ..Source::default()
//!     },
//!     fields: vec![
//!         (field("Image"), Value::Text(r"C:\Windows\System32\vssadmin.exe".into())),
//!         (field("CommandLine"), Value::Text("vssadmin Delete Shadows /all /quiet".into())),
//!     ],
//!     ..Event::default()
//! };
//!
//! let mut matcher = rules.matcher();
//! let matched = matcher.matches(&rules, &event).to_vec();
//! assert_eq!(rules.rule(matched[0]).unwrap().title, "Shadow copies deleted");
//! let why = matcher.why(&rules, &event, matched[0]);
//! assert_eq!(why[0].pattern, r"endswith \vssadmin.exe");
//! ```
//!
//! # The way of a rule
//!
//! text → [`Compiler`] (parsed by `rsigma-parser`) → `modifiers`, `lower`: a [`condition`] over
//! [`predicate`]s, all rules' predicates in one table, each once → `group`: the rules of one log source,
//! and of one event id where they name it, with a machine for each field (`field`) → [`RuleSet`].
//!
//! # The way of an event
//!
//! its source → plan (remembered by the [`Matcher`]): groups, and how the log's names feed Sigma's
//! ([`taxonomy`]) → each value that a rule reads goes once through its field's machine → predicates that
//! hold reach rules → only those conditions are looked at. So the cost follows the event's bytes and
//! hits, not the number of rules.
//!
//! # What an intake must give
//!
//! * The source, as far as it is known: a Windows event's channel and event id; or product and category
//!   (and service) as Sigma names them. An event of no known product only meets rules that name none.
//! * The fields that rules read ([`RuleSet::fields`]), under their names in the log: `EventID`,
//!   `Provider_Name`, `Channel` and `Computer` like all others (the id is taken from the source if there
//!   is no such field). A list is a name that comes more than once. Unnamed `<Data>` elements are a list
//!   named `Data`. An empty text is not null, and neither is a field that isn't there: give what was there.
//! * Every other value under [`FieldId::UNREAD`](cordon_model::event::FieldId::UNREAD) where
//!   [`Matcher::interest`] says [`Interest::AllValues`]: keywords are searched for in them.
//!
//! # Decisions where the specification leaves room
//!
//! * A value is compared as text, whatever its type: numbers in decimal, truth values as `true` and
//!   `false`. Case is folded character by character for all scripts.
//! * `null` holds for a field that isn't there or is null; `''` for one that is there and empty; `*` for
//!   any that is there and not null; `exists` for any that is there.
//! * `neq` asks that the field is there and is none of the values.
//! * `windash` means the dash that starts an option, in any of its five forms.
//! * Regular expressions are found anywhere in the value, mind case unless `i` says otherwise, and run in
//!   linear time; what can't (look-around, back-references) is refused.
//! * Time parts are read as they are written, as the specification says: no time zone is applied.

#![forbid(unsafe_code)]

mod compiler;
pub mod condition;
mod explain;
mod field;
mod fold;
mod group;
mod lower;
mod matcher;
mod modifiers;
pub mod number;
pub mod pattern;
pub mod predicate;
mod quick_hash;
mod required;
mod rule;
mod ruleset;
pub mod taxonomy;
pub mod timestamp;

pub use compiler::{Added, Compiler, FIELDS, RULES, TEXT_BYTES};
pub use explain::{Explained, Explanation, Part, SHOWN_CHARACTERS};
pub use lower::PREDICATES_A_RULE;
pub use matcher::Matcher;
pub use modifiers::{EXPANSIONS, Placeholders, REGEX_BYTES, REGEX_CACHE_BYTES};
pub use rule::{LogSource, Refusal, RuleIndex, RuleInfo};
pub use ruleset::{Interest, RuleSet};
