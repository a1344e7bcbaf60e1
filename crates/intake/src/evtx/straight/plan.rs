//! A template's tree, compiled: where each value goes in an event, and what JSON the record is.
//!
//! Both follow from one walk over the tree, which knows what object of the JSON each element is and so what
//! its names mean ([`inside`], [`Names`]). The JSON is the `evtx` crate's, byte by byte: its rules (which
//! element is `null`, where attributes go, how names that come again are numbered) are told in its
//! `binxml::compiled`. What they make depend on more than one value at a time is not compiled here, and its
//! records are left to the crate.

use std::ops::Range;

use super::slot::put_quoted;
use super::template::{Content, Element, Node};
use crate::meaning::{Meaning, Names, Naming, Scope, inside};

/// Most literal JSON of a template.
const LITERAL_BYTES: usize = 32 << 10;
/// Deepest objects that are compiled.
const DEPTH: usize = 12;

/// A template that is read here.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What its outermost element is called.
    pub root: String,
    pub literals: Vec<u8>,
    pub texts: String,
    pub json: Vec<JsonOp>,
    pub values: Vec<ValueOp>,
    /// The value that is another template's record, and where in this one's that stands.
    pub inner: Option<(u16, Role)>,
    /// The values that may be lists of texts.
    pub lists: Vec<u16>,
}

/// What a template's records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Whole records.
    Whole,
    /// Elements of `Event`.
    InEvent,
    /// The element of `EventData` or `UserData`.
    InData,
}

/// A piece of JSON.
#[derive(Debug)]
pub(super) enum JsonOp {
    Literal(Range<usize>),
    /// A comma, unless an object has just begun.
    Comma,
    /// Leaves the next ops out if the value is nothing.
    Unless {
        slot: u16,
        skip: usize,
    },
    /// Is null, and leaves the next ops out, if all the values are nothing.
    UnlessAll {
        slots: Vec<u16>,
        skip: usize,
    },
    Leaf {
        slot: u16,
        empty: Empty,
    },
    Mixed {
        attributes: Vec<JsonAttribute>,
        content: Option<u16>,
    },
    /// Another template's record as a member, with a comma before it.
    Inner {
        slot: u16,
        with_comma: bool,
    },
    /// An object with another template's record as its only member, or null.
    Holder {
        slot: u16,
    },
}

/// An attribute: all of it, or its name and a colon.
#[derive(Debug)]
pub(super) enum JsonAttribute {
    Literal(Range<usize>),
    Slot { key: Range<usize>, slot: u16 },
}

/// What an element without a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    Null,
    Text,
}

/// A value of the event.
#[derive(Debug)]
pub(super) enum ValueOp {
    /// A text of the template, or null.
    Constant {
        naming: Naming,
        text: Option<Range<usize>>,
    },
    Unless {
        slot: u16,
        skip: usize,
    },
    /// Is null, and leaves the next ops out, if all the values are nothing.
    UnlessAll {
        slots: Vec<u16>,
        skip: usize,
        naming: Naming,
    },
    Leaf {
        slot: u16,
        empty: Empty,
        naming: Naming,
    },
    Mixed(Box<Mixed>),
    /// Another template's record. Without, null if that has a name.
    Inner {
        slot: u16,
        empty: Option<Naming>,
    },
}

/// An element that is an object if one of its attributes has a value, and else its own value.
#[derive(Debug)]
pub(super) struct Mixed {
    /// Nobody reads those without a name.
    pub attributes: Vec<(Option<Naming>, Attribute)>,
    pub content: Option<u16>,
    /// What its value is called in the object.
    pub in_object: Naming,
    /// What it is called without.
    pub alone: Naming,
}

#[derive(Debug)]
pub(super) enum Attribute {
    Text(Range<usize>),
    Slot(u16),
}

/// Compiles a template, if its records are read here.
pub(super) fn compile(root: &Element, role: Role, names: &mut Names<'_>) -> Option<Plan> {
    let mut compiler = Compiler { names, plan: Plan::default(), run: 0, slots: Vec::new() };
    match role {
        Role::Whole => {
            compiler.literal(b"{");
            compiler.key(&root.name);
            compiler.value(root, Scope::Root, &root.name, 0)?;
            compiler.literal(b"}");
        }
        Role::InEvent => compiler.value(root, Scope::Event, &root.name, 0)?,
        Role::InData => compiler.value(root, Scope::Data, &root.name, 0)?,
    }
    compiler.finish(root)
}

fn is_container(name: &str) -> bool {
    matches!(name, "EventData" | "UserData")
}

/// What is known of an object's members while they are compiled.
#[derive(Default)]
struct Members<'t> {
    /// One is written whatever the values.
    has_certain: bool,
    /// One may be left out.
    has_possible: bool,
    /// Their names, with the elements that have them.
    names: Vec<&'t Element>,
    data_names: Vec<&'t str>,
}

struct Compiler<'c, 'r> {
    names: &'c mut Names<'r>,
    plan: Plan,
    /// Where the literal begins that is not yet an op.
    run: usize,
    /// Every value that is used.
    slots: Vec<u16>,
}

/// Where an op stands that leaves others out, in both lists.
struct Guard {
    json: usize,
    values: usize,
}

impl Compiler<'_, '_> {
    fn finish(mut self, root: &Element) -> Option<Plan> {
        self.flush();
        let uses = self.slots.len();
        self.slots.sort_unstable();
        self.slots.dedup();
        let is_small = self.plan.literals.len() <= LITERAL_BYTES;
        self.plan.root.clone_from(&root.name);
        (is_small && self.slots.len() == uses).then_some(self.plan)
    }

    fn literal(&mut self, bytes: &[u8]) {
        self.plan.literals.extend_from_slice(bytes);
    }

    fn key(&mut self, name: &str) {
        put_quoted(&mut self.plan.literals, |out| out.extend_from_slice(name.as_bytes()));
        self.literal(b":");
    }

    fn quoted(&mut self, text: &str) {
        put_quoted(&mut self.plan.literals, |out| out.extend_from_slice(text.as_bytes()));
    }

    fn flush(&mut self) {
        let end = self.plan.literals.len();
        if end > self.run {
            self.plan.json.push(JsonOp::Literal(self.run..end));
        }
        self.run = end;
    }

    /// A literal that is not written where it stands.
    fn aside(&mut self, put: impl FnOnce(&mut Self)) -> Range<usize> {
        self.flush();
        let from = self.plan.literals.len();
        put(self);
        self.run = self.plan.literals.len();
        from..self.run
    }

    fn text(&mut self, text: &str) -> Range<usize> {
        let from = self.plan.texts.len();
        self.plan.texts.push_str(text);
        from..self.plan.texts.len()
    }

    fn constant(&mut self, scope: Scope<'_>, key: &str, text: Option<&str>) {
        let naming = self.names.leaf(scope, key, "");
        if is_read(naming) {
            let text = text.map(|text| self.text(text));
            self.plan.values.push(ValueOp::Constant { naming, text });
        }
    }

    fn leaf(&mut self, scope: Scope<'_>, key: &str, slot: u16, empty: Empty) {
        self.flush();
        self.slots.push(slot);
        self.plan.json.push(JsonOp::Leaf { slot, empty });
        let naming = self.names.leaf(scope, key, "");
        if is_read(naming) {
            self.plan.values.push(ValueOp::Leaf { slot, empty, naming });
        }
    }

    /// The value of `element`, which stands under `key` of an object of `scope`.
    fn value(
        &mut self,
        element: &Element,
        scope: Scope<'_>,
        key: &str,
        depth: usize,
    ) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        let attributes = &element.attributes;
        let has_slots = attributes.iter().any(|(_, value)| matches!(value, Content::Slot(_)));
        let has_texts = has_texts(element);
        let is_element = |node: &Node| matches!(node, Node::Element(_));
        match element.children.as_slice() {
            [] if has_slots => self.mixed(element, scope, key, None),
            [] => self.fixed(element, scope, key, ""),
            [Node::Content(Content::Text(text))] if !has_slots => {
                self.fixed(element, scope, key, text)
            }
            [Node::Content(Content::Slot(slot))] if has_slots || has_texts => {
                self.mixed(element, scope, key, Some(*slot))
            }
            [Node::Content(Content::Slot(slot))] if !is_container(&element.name) => {
                self.leaf(scope, key, *slot, Empty::Null);
                Some(())
            }
            [Node::Content(Content::Slot(slot))] => self.holder(*slot, scope, key),
            children if !has_slots && children.iter().any(is_element) => {
                self.object(element, scope, key, depth + 1)
            }
            _ => None,
        }
    }

    /// An element of which the template says all, and that has no elements.
    fn fixed(&mut self, element: &Element, scope: Scope<'_>, key: &str, text: &str) -> Option<()> {
        if !has_texts(element) {
            let text = Some(text).filter(|text| !text.is_empty());
            match text {
                Some(text) => self.quoted(text),
                None => self.literal(b"null"),
            }
            self.constant(scope, key, text);
            return Some(());
        }
        let inner = inside_known(scope, key)?;
        self.literal(b"{");
        self.attributes(element, inner)?;
        if !text.is_empty() {
            self.literal(b",\"#text\":");
            self.quoted(text);
            self.constant(inner, "#text", Some(text));
        }
        self.literal(b"}");
        Some(())
    }

    /// Attributes that are texts, those that are empty left out.
    fn attributes(&mut self, element: &Element, inner: Scope<'_>) -> Option<()> {
        let scope = inside(inner, "#attributes");
        self.literal(b"\"#attributes\":{");
        let mut is_first = true;
        for (name, value) in &element.attributes {
            let Content::Text(text) = value else { return None };
            if text.is_empty() {
                continue;
            }
            if !is_first {
                self.literal(b",");
            }
            is_first = false;
            self.key(name);
            self.quoted(text);
            if let Some(scope) = scope {
                self.constant(known(scope)?, name, Some(text));
            }
        }
        self.literal(b"}");
        Some(())
    }

    /// An element with attributes that are values, or with attributes and a value.
    fn mixed(
        &mut self,
        element: &Element,
        scope: Scope<'_>,
        key: &str,
        content: Option<u16>,
    ) -> Option<()> {
        let inner = inside_known(scope, key)?;
        let names = match inside(inner, "#attributes") {
            Some(scope) => Some(known(scope)?),
            None => None,
        };
        let (mut json, mut values) = (Vec::new(), Vec::new());
        for (name, value) in &element.attributes {
            let naming =
                names.map(|scope| self.names.leaf(scope, name, "")).filter(|it| is_read(*it));
            match value {
                Content::Text(text) if text.is_empty() => {}
                Content::Text(text) => {
                    let all = self.aside(|it| {
                        it.key(name);
                        it.quoted(text);
                    });
                    json.push(JsonAttribute::Literal(all));
                    values.push((naming, Attribute::Text(self.text(text))));
                }
                Content::Slot(slot) => {
                    let key = self.aside(|it| it.key(name));
                    self.slots.push(*slot);
                    json.push(JsonAttribute::Slot { key, slot: *slot });
                    values.push((naming, Attribute::Slot(*slot)));
                }
            }
        }
        self.flush();
        self.slots.extend(content);
        self.plan.json.push(JsonOp::Mixed { attributes: json, content });
        let in_object = self.names.leaf(inner, "#text", "");
        let alone = self.names.leaf(scope, key, "");
        let mixed = Mixed { attributes: values, content, in_object, alone };
        self.plan.values.push(ValueOp::Mixed(Box::new(mixed)));
        Some(())
    }

    /// A container whose only content is another template's record.
    fn holder(&mut self, slot: u16, scope: Scope<'_>, key: &str) -> Option<()> {
        let is_data = matches!(inside(scope, key), Some(Scope::Data));
        if !is_data || self.plan.inner.is_some() {
            return None;
        }
        self.flush();
        self.slots.push(slot);
        self.plan.inner = Some((slot, Role::InData));
        self.plan.json.push(JsonOp::Holder { slot });
        let naming = self.names.leaf(scope, key, "");
        self.plan.values.push(ValueOp::Inner { slot, empty: Some(naming) });
        Some(())
    }

    /// An element of elements, under `key` of an object of `outer`.
    fn object(
        &mut self,
        element: &Element,
        outer: Scope<'_>,
        key: &str,
        depth: usize,
    ) -> Option<()> {
        let scope = inside_known(outer, key)?;
        let elements = || {
            element.children.iter().filter_map(|node| match node {
                Node::Element(child) => Some(child),
                Node::Content(_) => None,
            })
        };
        let has_attributes = has_texts(element);
        // If all are left out, it is null.
        let dependencies: Option<Vec<u16>> = elements().map(|child| child.dependency).collect();
        if dependencies.is_some() && elements().count() < element.children.len() {
            return None;
        }
        let guard = dependencies.filter(|_| !has_attributes).map(|slots| {
            self.flush();
            let naming = self.names.leaf(outer, key, "");
            self.plan.json.push(JsonOp::UnlessAll { slots: slots.clone(), skip: 0 });
            self.plan.values.push(ValueOp::UnlessAll { slots, skip: 0, naming });
            Guard { json: self.plan.json.len(), values: self.plan.values.len() }
        });
        let mut members = Members::default();
        self.literal(b"{");
        if has_attributes {
            self.attributes(element, scope)?;
            members.has_certain = true;
        }
        let data = Data::of(element, elements())?;
        let mut is_data_written = false;
        let mut has_inner = false;
        for node in &element.children {
            match node {
                _ if has_inner => return None,
                Node::Element(child) if is_container(&element.name) && child.name == "Data" => {
                    match &data {
                        Data::Named => self.named_data(child, &mut members, scope)?,
                        Data::Listed(all) if !is_data_written => {
                            is_data_written = true;
                            self.listed_data(all, &mut members, scope)?;
                        }
                        Data::Listed(_) => {}
                    }
                }
                Node::Element(child) => self.member(child, &mut members, scope, depth)?,
                Node::Content(Content::Slot(slot)) => {
                    has_inner = true;
                    self.inner(*slot, &members, scope)?;
                }
                Node::Content(Content::Text(_)) => return None,
            }
        }
        self.literal(b"}");
        self.end_member(guard);
        Some(())
    }

    /// A member with its element's own name, numbered if it comes again.
    fn member<'t>(
        &mut self,
        child: &'t Element,
        members: &mut Members<'t>,
        scope: Scope<'_>,
        depth: usize,
    ) -> Option<()> {
        let alike = members.names.iter().filter(|known| known.name == child.name);
        let (mut number, mut may_be_left_out) = (0, child.dependency.is_some());
        for known in alike {
            number += 1;
            may_be_left_out |= known.dependency.is_some();
        }
        if number > 0 && may_be_left_out {
            return None; // which number it has would depend on a value
        }
        members.names.push(child);
        let key = if number > 0 { &format!("{}_{number}", child.name) } else { &child.name };
        let guard = self.begin_member(child.dependency, members);
        self.key(key);
        self.value(child, scope, key, depth)?;
        self.end_member(guard);
        Some(())
    }

    /// `<Data Name="X">`: a member X.
    fn named_data<'t>(
        &mut self,
        child: &'t Element,
        members: &mut Members<'t>,
        scope: Scope<'_>,
    ) -> Option<()> {
        let name = child.attributes.iter().find(|(name, _)| name == "Name");
        let Some((_, Content::Text(name))) = name else { return Some(()) };
        if name.is_empty() {
            return Some(());
        }
        // Those of one name in a row would be a list.
        if members.data_names.last() == Some(&name.as_str())
            || name.contains(char::REPLACEMENT_CHARACTER)
        {
            return None;
        }
        let number = members.data_names.iter().filter(|known| **known == name).count();
        members.data_names.push(name);
        let key = if number > 0 { &format!("{name}_{number}") } else { name };
        let guard = self.begin_member(None, members);
        self.key(key);
        self.data(child, scope, key)?;
        self.end_member(guard);
        Some(())
    }

    /// `<Data>` without names: one member, a list if there are several.
    fn listed_data(
        &mut self,
        all: &[&Element],
        members: &mut Members<'_>,
        scope: Scope<'_>,
    ) -> Option<()> {
        let dependency = all.first().and_then(|first| first.dependency);
        let inner = inside_known(scope, "Data")?;
        let guard = self.begin_member(dependency, members);
        self.literal(b"\"Data\":{\"#text\":");
        if let [one] = all {
            if let [Node::Content(Content::Slot(slot))] = one.children.as_slice() {
                self.plan.lists.push(*slot);
            }
            self.data(one, inner, "#text")?;
        } else {
            for (place, one) in all.iter().enumerate() {
                self.literal(if place == 0 { b"[" } else { b"," });
                self.data(one, inner, "#text")?;
            }
            self.literal(b"]");
        }
        self.literal(b"}");
        self.end_member(guard);
        Some(())
    }

    /// The value of a `Data` element, which is a text when there is none.
    fn data(&mut self, element: &Element, scope: Scope<'_>, key: &str) -> Option<()> {
        match element.children.as_slice() {
            [Node::Content(Content::Slot(slot))] => self.leaf(scope, key, *slot, Empty::Text),
            [] => {
                self.quoted("");
                self.constant(scope, key, Some(""));
            }
            [Node::Content(Content::Text(text))] => {
                self.quoted(text);
                self.constant(scope, key, Some(text));
            }
            _ => return None,
        }
        Some(())
    }

    /// The place of another template's record.
    fn inner(&mut self, slot: u16, members: &Members<'_>, scope: Scope<'_>) -> Option<()> {
        if !matches!(scope, Scope::Event) || members.has_possible || self.plan.inner.is_some() {
            return None;
        }
        // It must not have the name of a member; `Event` has few.
        if members.names.iter().any(|member| is_container(&member.name)) {
            return None;
        }
        self.flush();
        self.slots.push(slot);
        self.plan.inner = Some((slot, Role::InEvent));
        self.plan.json.push(JsonOp::Inner { slot, with_comma: members.has_certain });
        self.plan.values.push(ValueOp::Inner { slot, empty: None });
        Some(())
    }

    fn begin_member(
        &mut self,
        dependency: Option<u16>,
        members: &mut Members<'_>,
    ) -> Option<Guard> {
        let guard = dependency.map(|slot| {
            self.flush();
            self.plan.json.push(JsonOp::Unless { slot, skip: 0 });
            self.plan.values.push(ValueOp::Unless { slot, skip: 0 });
            Guard { json: self.plan.json.len(), values: self.plan.values.len() }
        });
        if members.has_certain {
            self.literal(b",");
        } else if members.has_possible {
            self.flush();
            self.plan.json.push(JsonOp::Comma);
        }
        if dependency.is_some() {
            members.has_possible = true;
        } else {
            members.has_certain = true;
        }
        guard
    }

    fn end_member(&mut self, guard: Option<Guard>) {
        let Some(guard) = guard else { return };
        self.flush();
        let (json, values) = (self.plan.json.len(), self.plan.values.len());
        if let Some(JsonOp::Unless { skip, .. } | JsonOp::UnlessAll { skip, .. }) =
            self.plan.json.get_mut(guard.json - 1)
        {
            *skip = json - guard.json;
        }
        if let Some(ValueOp::Unless { skip, .. } | ValueOp::UnlessAll { skip, .. }) =
            self.plan.values.get_mut(guard.values - 1)
        {
            *skip = values - guard.values;
        }
    }
}

/// How the `Data` elements of a container are written.
enum Data<'t> {
    Named,
    Listed(Vec<&'t Element>),
}

impl<'t> Data<'t> {
    /// None if that, or what the names are, depends on values.
    fn of(container: &Element, elements: impl Iterator<Item = &'t Element>) -> Option<Self> {
        if !is_container(&container.name) {
            return Some(Self::Listed(Vec::new()));
        }
        let all: Vec<&Element> = elements.filter(|child| child.name == "Data").collect();
        let mut is_named = false;
        for child in &all {
            match child.attributes.iter().find(|(name, _)| name == "Name") {
                Some((_, Content::Slot(_))) => return None,
                Some((_, Content::Text(text))) => is_named |= !text.is_empty(),
                None => {}
            }
        }
        let may_be_left_out = all.iter().any(|child| child.dependency.is_some());
        match is_named {
            true => (!may_be_left_out).then_some(Self::Named),
            false => (!may_be_left_out || all.len() < 2).then_some(Self::Listed(all)),
        }
    }
}

/// Whether it has an attribute that is a text.
fn has_texts(element: &Element) -> bool {
    let is_text = |value: &Content| matches!(value, Content::Text(text) if !text.is_empty());
    element.attributes.iter().any(|(_, value)| is_text(value))
}

/// Whether somebody reads what is called so.
fn is_read(naming: Naming) -> bool {
    let is_nothing = |meaning: Meaning| meaning.is_nothing();
    match naming {
        Naming::Known(meaning) => !is_nothing(meaning),
        Naming::Numbered { .. } => true,
    }
}

/// The scope inside an object, if names there need no path.
fn inside_known<'k>(scope: Scope<'k>, key: &'k str) -> Option<Scope<'k>> {
    known(inside(scope, key)?)
}

fn known(scope: Scope<'_>) -> Option<Scope<'_>> {
    (!matches!(scope, Scope::Path | Scope::Winlog | Scope::Root)).then_some(scope)
}
