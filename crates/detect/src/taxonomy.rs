//! Which events a rule's log source means, as data: `data/windows.toml`.
//!
//! The one idea: a source either says its category and service itself (a sensor of ours, a collector), or
//! they follow from its Windows channel and event id by the table. A category always carries its event
//! ids: a rule about network connections is never asked about a process start.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::fold::fold;
use crate::rule::LogSource;

static WINDOWS: LazyLock<Taxonomy> = LazyLock::new(|| {
    let table: Table = parsed(include_str!("../data/windows.toml"));
    Taxonomy::from(table)
});

#[expect(clippy::expect_used, reason = "the table is part of the program; a test reads it")]
fn parsed(text: &str) -> Table {
    toml::from_str(text).expect("data/windows.toml is well-formed")
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    services: BTreeMap<String, Vec<String>>,
    category: Vec<Category>,
    service: Vec<Service>,
    contains: Vec<Contains>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Category {
    name: String,
    channels: Vec<String>,
    event_ids: Vec<u32>,
    #[serde(default)]
    fields: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    values: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    fields: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contains {
    category: String,
    parts: Vec<String>,
}

/// How one log names and words what a category asks for.
#[derive(Debug, Default)]
pub struct Mapping {
    /// Sigma's field name and the log's names for it.
    pub fields: Vec<(Box<str>, Vec<Box<str>>)>,
    /// Sigma's field name and what its values say in Sigma's words.
    pub values: Vec<(Box<str>, Vec<Translation>)>,
}

/// A value in a log's words and in Sigma's.
#[derive(Debug)]
pub struct Translation {
    /// The log's, folded.
    pub log: Box<str>,
    /// Sigma's.
    pub sigma: Box<str>,
}

/// A mapping's number in the [`Taxonomy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MappingIndex(pub u16);

/// The table, ready to be asked.
#[derive(Debug)]
pub struct Taxonomy {
    services_of_channel: HashMap<String, Vec<Box<str>>>,
    /// By channel (folded) and event id.
    categories_of: HashMap<(String, u32), Vec<Place>>,
    wider: HashMap<Box<str>, Vec<Box<str>>>,
    mapping_of_service: HashMap<Box<str>, MappingIndex>,
    /// By number: the category or service whose rules it is for.
    mappings: Vec<(Owner, Mapping)>,
}

/// A category that has a place in a log, and that log's names for it.
#[derive(Debug)]
struct Place {
    category: Box<str>,
    mapping: Option<MappingIndex>,
}

#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Category(Box<str>),
    Service(Box<str>),
}

/// How an event's fields reach a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Under Sigma's names.
    Direct,
    /// Under a log's own names.
    Mapped(MappingIndex),
}

/// A source in the words of rules, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its product.
    pub product: Option<String>,
    /// The category that it says itself.
    pub category: Option<String>,
    /// The service that it says itself.
    pub service: Option<String>,
    /// Its Windows channel.
    pub channel: Option<String>,
    /// Its event id.
    pub event_id: Option<u32>,
}

impl Taxonomy {
    /// The table of Windows logs.
    #[must_use]
    pub fn windows() -> &'static Self {
        &WINDOWS
    }

    /// Whether rules with this log source are asked about events of this origin, and by which names.
    #[must_use]
    pub fn reach(&self, asked: &LogSource, origin: &Origin) -> Option<Reach> {
        if let Some(product) = asked.product.as_deref() {
            let is_windows = origin.channel.is_some() && origin.product.is_none();
            let seen = if is_windows { Some("windows") } else { origin.product.as_deref() };
            if seen != Some(product) {
                return None;
            }
        }
        if let Some(service) = asked.service.as_deref() {
            let says_so = origin.service.as_deref() == Some(service);
            let by_channel = || {
                let services = self.services_of_channel.get(origin.channel.as_deref()?)?;
                services.iter().any(|known| **known == *service).then_some(())
            };
            if !says_so && by_channel().is_none() {
                return None;
            }
        }
        let of_service = || self.mapping_of_service.get(asked.service.as_deref()?).copied();
        match asked.category.as_deref() {
            None => Some(of_service().map_or(Reach::Direct, Reach::Mapped)),
            Some(category) => self.category_reach(category, origin),
        }
    }

    fn category_reach(&self, asked: &str, origin: &Origin) -> Option<Reach> {
        if let Some(said) = origin.category.as_deref() {
            let is_part =
                self.wider.get(said).is_some_and(|wider| wider.iter().any(|wide| **wide == *asked));
            if said == asked || is_part {
                return Some(Reach::Direct);
            }
        }
        let place = (origin.channel.clone()?, origin.event_id?);
        let found =
            self.categories_of.get(&place)?.iter().find(|known| *known.category == *asked)?;
        Some(found.mapping.map_or(Reach::Direct, Reach::Mapped))
    }

    /// The mappings that rules with this log source may be reached by.
    pub fn mappings_of<'t>(
        &'t self,
        asked: &'t LogSource,
    ) -> impl Iterator<Item = (MappingIndex, &'t Mapping)> {
        let is_for = move |owner: &Owner| match (owner, asked) {
            (Owner::Category(name), LogSource { category: Some(category), .. }) => name == category,
            (Owner::Service(name), LogSource { category: None, service: Some(service), .. }) => {
                name == service
            }
            _ => false,
        };
        let indexed = self.mappings.iter().enumerate();
        indexed.filter(move |(_, (owner, _))| is_for(owner)).filter_map(|(index, (_, mapping))| {
            Some((MappingIndex(u16::try_from(index).ok()?), mapping))
        })
    }

    /// Whether the table knows a category by some channel and event id.
    #[must_use]
    pub fn knows_category(&self, category: &str) -> bool {
        self.categories_of.values().flatten().any(|known| *known.category == *category)
    }

    /// Whether the table knows a Windows service.
    #[must_use]
    pub fn knows_service(&self, service: &str) -> bool {
        self.services_of_channel.values().flatten().any(|known| **known == *service)
    }
}

impl Taxonomy {
    fn add_mapping(
        &mut self,
        owner: Owner,
        fields: BTreeMap<String, Vec<String>>,
        values: BTreeMap<String, BTreeMap<String, String>>,
    ) -> MappingIndex {
        let fields = fields
            .into_iter()
            .map(|(sigma, logs)| (sigma.into(), logs.into_iter().map(Into::into).collect()));
        let values = values.into_iter().map(|(sigma, words)| {
            let words = words
                .into_iter()
                .map(|(log, sigma)| Translation { log: fold(&log).into(), sigma: sigma.into() });
            (sigma.into(), words.collect())
        });
        // The table is the program's own and has far fewer.
        let index = MappingIndex(u16::try_from(self.mappings.len()).unwrap_or(u16::MAX));
        self.mappings.push((owner, Mapping { fields: fields.collect(), values: values.collect() }));
        index
    }
}

impl From<Table> for Taxonomy {
    fn from(table: Table) -> Self {
        let mut taxonomy = Self {
            services_of_channel: HashMap::new(),
            categories_of: HashMap::new(),
            wider: HashMap::new(),
            mapping_of_service: HashMap::new(),
            mappings: Vec::new(),
        };
        for (service, channels) in table.services {
            for channel in channels {
                taxonomy
                    .services_of_channel
                    .entry(fold(&channel))
                    .or_default()
                    .push(service.as_str().into());
            }
        }
        for category in table.category {
            let mapping = (!category.fields.is_empty()).then(|| {
                let owner = Owner::Category(category.name.as_str().into());
                taxonomy.add_mapping(owner, category.fields, category.values)
            });
            for channel in &category.channels {
                for id in &category.event_ids {
                    let here = taxonomy.categories_of.entry((fold(channel), *id)).or_default();
                    here.push(Place { category: category.name.as_str().into(), mapping });
                }
            }
        }
        for service in table.service {
            let owner = Owner::Service(service.name.as_str().into());
            let mapping = taxonomy.add_mapping(owner, service.fields, BTreeMap::new());
            taxonomy.mapping_of_service.insert(service.name.into(), mapping);
        }
        for contains in table.contains {
            for part in contains.parts {
                taxonomy
                    .wider
                    .entry(part.into())
                    .or_default()
                    .push(contains.category.as_str().into());
            }
        }
        taxonomy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_for(product: &str, category: &str, service: &str) -> LogSource {
        let some = |text: &str| (!text.is_empty()).then(|| text.into());
        LogSource { product: some(product), category: some(category), service: some(service) }
    }

    fn channel(channel: &str, event_id: u32) -> Origin {
        Origin { channel: Some(fold(channel)), event_id: Some(event_id), ..Origin::default() }
    }

    const SYSMON: &str = "Microsoft-Windows-Sysmon/Operational";

    #[test]
    fn a_category_carries_its_event_ids() {
        let table = Taxonomy::windows();
        let network = rules_for("windows", "network_connection", "");
        assert_eq!(table.reach(&network, &channel(SYSMON, 3)), Some(Reach::Direct));
        assert_eq!(table.reach(&network, &channel(SYSMON, 1)), None);
    }

    #[test]
    fn process_creation_is_sysmon_and_security_with_its_own_names() {
        let table = Taxonomy::windows();
        let creation = rules_for("windows", "process_creation", "");
        assert_eq!(table.reach(&creation, &channel(SYSMON, 1)), Some(Reach::Direct));
        assert!(matches!(
            table.reach(&creation, &channel("Security", 4688)),
            Some(Reach::Mapped(_))
        ));
        assert_eq!(table.reach(&creation, &channel("Security", 4624)), None);
    }

    #[test]
    fn a_service_is_its_channel_whatever_the_provider() {
        let table = Taxonomy::windows();
        let security = rules_for("windows", "", "security");
        assert_eq!(table.reach(&security, &channel("Security", 1102)), Some(Reach::Direct));
        assert_eq!(table.reach(&security, &channel("System", 1102)), None);
    }

    #[test]
    fn a_source_that_says_what_it_is_is_believed() {
        let table = Taxonomy::windows();
        let said = |category: &str, product: &str| Origin {
            product: Some(product.into()),
            category: Some(category.into()),
            ..Origin::default()
        };
        let creation = rules_for("linux", "process_creation", "");
        assert_eq!(table.reach(&creation, &said("process_creation", "linux")), Some(Reach::Direct));
        assert_eq!(table.reach(&creation, &said("process_creation", "macos")), None);
        let any_product = rules_for("", "process_creation", "");
        assert_eq!(
            table.reach(&any_product, &said("process_creation", "macos")),
            Some(Reach::Direct)
        );
        let registry = rules_for("windows", "registry_event", "");
        assert_eq!(table.reach(&registry, &said("registry_set", "windows")), Some(Reach::Direct));
    }

    #[test]
    fn what_is_of_no_known_product_reaches_only_rules_without_one() {
        let table = Taxonomy::windows();
        assert_eq!(table.reach(&rules_for("windows", "", ""), &Origin::default()), None);
        assert_eq!(table.reach(&rules_for("", "", ""), &Origin::default()), Some(Reach::Direct));
    }
}
