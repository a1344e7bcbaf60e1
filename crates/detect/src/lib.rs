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
//! # The way of a hit
//!
//! Correlations are about several events within a time. Whoever has events asks [`RuleSet::correlates`],
//! has [`Matcher::hit`] made of each match, and gives them with the event's time to a [`Correlator`], which
//! says what fires. Whatever [`RuleSet::is_told`] denies is there for correlations only and is no finding
//! by itself. Filters need nothing: they are part of their rules when these are compiled.
//!
//! ```
//! # use cordon_detect::{Compiler, Correlator, CorrelatorLimits};
//! # use cordon_model::event::{Event, Source, Value};
//! # use cordon_model::time::UtcNanos;
//! # let mut compiler = Compiler::new();
//! compiler.add_yaml("logons.yml", r"
//! title: Failed logon
//! name: failed_logon
//! logsource: { category: authentication }
//! detection:
//!     failed: { Result: failure }
//!     condition: failed
//! ---
//! title: Many failed logons
//! correlation:
//!     type: event_count
//!     rules: [failed_logon]
//!     group-by: [User]
//!     timespan: 5m
//!     condition: { gte: 3 }
//! level: high
//! ");
//! # let (rules, refusals) = compiler.compile();
//! # assert!(refusals.is_empty(), "{refusals:?}");
//! # let field = |name| rules.fields().find(name).unwrap();
//! # let failure = || Event {
//! #     source: Source { category: Some("authentication".into()), ..Source::default() },
//! #     fields: vec![
//! #         (field("Result"), Value::Text("failure".into())),
//! #         (field("User"), Value::Text("nurse".into())),
//! #     ],
//! #     ..Event::default()
//! # };
//! # let events = [(1, failure()), (200, failure()), (250, failure())];
//! let mut matcher = rules.matcher();
//! let mut correlator = Correlator::new(CorrelatorLimits::default());
//! let mut fired = Vec::new();
//! for (tag, (second, event)) in (0..).zip(&events) {
//!     let matched = matcher.matches(&rules, event).to_vec();
//!     let hits = matched.iter().filter_map(|rule| matcher.hit(&rules, event, *rule, tag));
//!     let time = UtcNanos::from_unix_nanos(second * 1_000_000_000);
//!     correlator.hear(&rules, time, hits.collect::<Vec<_>>(), &mut |firing| fired.push(firing));
//! }
//! correlator.finish(&rules, &mut |firing| fired.push(firing));
//! assert_eq!(fired[0].hits.len(), 3);
//! assert_eq!(&*fired[0].group[0].1, "nurse");
//! ```
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
//! * A filter's condition is joined to the rule's by *and*: an exclusion says `condition: not selection`,
//!   as Sigma's own documents do (the one example in the specification of filters, `condition: selection`,
//!   would keep only the administrator's events that it means to leave out). A filter is added to those of
//!   its rules whose log source has all parts of its own; each other rule that it names is told.
//! * A correlation is judged at every moment at which a hit of its rules comes, on the hits of the timespan
//!   that ends there (both ends included): windows slide and are cut nowhere. Hits of one time are judged
//!   together. So `gte: 10` holds from the tenth on; `lt`, `lte`, `eq`, `neq` and ranges hold as the count
//!   *stands* at a hit (`lt: 5` at the first one): give them a lower bound too. That nothing came is no
//!   moment; a condition that only no hit at all could meet is refused.
//! * It then *fires*, and fires again for the same group at the first moment that it holds after its last
//!   firing's timespan is over: no hit is part of two firings, and what goes on is told again and again.
//! * In a chain the temporal kinds and `value_count` see a correlation happen at each moment at which it
//!   holds (a logon after an hour of failures follows failures that are many *now*); what counts or
//!   reckons sees it only when it fires. It has its group's values, and in other fields all values that
//!   its hits have.
//! * `group-by` compares as rules do, whatever the case. An event that lacks the field is in no group; one
//!   that has a list there is in the group of each value. Both are counted or told by the correlator. Without
//!   `group-by` there is one group.
//! * An alias counts for the rules that it names and for correlations of these; for other rules the name is
//!   a field's own. An alias that names a rule which isn't referred to is refused.
//! * `temporal` without a condition wants all rules; a number in it counts the different rules, a condition
//!   in words (`a and not b`) is over what came before. `temporal_ordered` counts the rules that come in
//!   order, one time being in any order.
//! * `value_count` of several fields counts their combinations. Sums, averages, medians and percentiles are
//!   of the values that are numbers; percentiles lie between two values in proportion. `value_percentile`
//!   needs `percentile`: the specification's example has only a bound and doesn't say of what.
//! * What a correlation refers to is told by itself only if one correlation that refers to it says
//!   `generate: true`; a correlation that is refused silences nothing.
//! * A rule or correlation whose status is `deprecated` or `unsupported` is passed over and counted, unless
//!   it is asked for. What only a withdrawn correlation refers to is told by itself, as if it weren't there.
//! * Time parts are read as they are written, as the specification says: no time zone is applied.

#![forbid(unsafe_code)]

mod bounds;
mod budget;
mod compiler;
pub mod condition;
mod correlation;
mod document;
mod explain;
mod field;
mod filter;
mod fold;
mod group;
mod literals;
mod lower;
mod matcher;
mod memo;
mod modifiers;
mod names;
pub mod number;
pub mod pattern;
mod placeholders;
pub mod predicate;
mod program;
mod quick_hash;
mod required;
mod rule;
mod ruleset;
mod shorten;
pub mod stored;
pub mod taxonomy;
mod texts;
pub mod timestamp;
mod verdict;

pub use bounds::{
    CONDITION_DEPTH, DOCUMENT_BYTES, DOCUMENT_NODES, EXPANDED_BYTES, MERGED_BYTES, NESTING,
};
pub use budget::{
    DETECTIONS, GLOB_PIECES_A_RULE, MODIFIERS, PATTERN_BYTES_A_RULE, REGEX_BYTES_A_FILE,
    REGEX_BYTES_A_RULE, REGEX_BYTES_A_SET,
};
pub use compiler::{Added, Compiler, FIELDS, RULES, TEXT_BYTES};
pub use correlation::state::{
    CarriedOver, Correlator, CorrelatorLimits, EVIDENCE, Evidence, Firing, GROUPS_A_HIT, Hit,
    NUMBERS_A_GROUP, Unheard,
};
pub use correlation::{CHAIN, CORRELATIONS, COUNTED, FIELDS_A_CORRELATION, RULES_A_CORRELATION};
pub use explain::{Explained, Explanation, Part, SHOWN_CHARACTERS};
pub use filter::PREDICATES_OF_FILTERS;
pub use lower::PREDICATES_A_RULE;
pub use matcher::Matcher;
pub use modifiers::{EXPANSIONS, REGEX_BYTES, REGEX_CACHE_BYTES, REGEX_TEXT_BYTES};
pub use placeholders::{Placeholders, tells_placeholders};
pub use required::required_texts;
pub use rule::{LogSource, Refusal, RuleIndex, RuleInfo};
pub use ruleset::{Interest, RuleSet};
