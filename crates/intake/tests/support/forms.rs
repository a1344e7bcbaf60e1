//! Windows event logs of any templates and values, for comparing two ways of reading them.

use std::collections::HashMap;

use super::{CHUNK, FIRST_RECORD, HEADER, crc32, put, utf16};

/// An element of a template.
#[derive(Debug, Clone)]
pub struct Element {
    pub name: &'static str,
    pub dependency: Option<u16>,
    pub attributes: Vec<(&'static str, Content)>,
    pub children: Vec<Node>,
}

#[derive(Debug, Clone)]
pub enum Content {
    Text(&'static str),
    Slot(u16),
}

#[derive(Debug, Clone)]
pub enum Node {
    Content(Content),
    Element(Element),
}

/// A value: of a type, or a record of another template.
#[derive(Debug, Clone)]
pub enum Value {
    Plain(u8, Vec<u8>),
    Inner(usize, Vec<Value>),
}

/// One chunk with these records, each of a template by its number, in a file of its own.
pub fn log_of(templates: &[Element], records: &[(usize, Vec<Value>)]) -> Vec<u8> {
    let mut writer = Writer { bytes: vec![0; FIRST_RECORD], ..Writer::default() };
    let mut last = 0;
    for (number, (template, values)) in records.iter().enumerate() {
        last = writer.bytes.len();
        writer.record(number as u64 + 1, templates, *template, values);
    }
    let mut chunk = writer.bytes;
    let free = chunk.len();
    assert!(free <= CHUNK, "the chunk is full");
    chunk.resize(CHUNK, 0);
    chunk[..8].copy_from_slice(b"ElfChnk\0");
    for (at, number) in [(8, 1), (16, records.len()), (24, 1), (32, records.len())] {
        put(&mut chunk, at, &(number as u64).to_le_bytes());
    }
    put(&mut chunk, 40, &128u32.to_le_bytes());
    put(&mut chunk, 44, &(last as u32).to_le_bytes());
    put(&mut chunk, 48, &(free as u32).to_le_bytes());
    // Some names are in the header's table, as a chain.
    put(&mut chunk, 128, &writer.latest_name.to_le_bytes());
    let records = crc32(&chunk[FIRST_RECORD..free]);
    put(&mut chunk, 52, &records.to_le_bytes());
    let header = crc32(&[&chunk[..120], &chunk[128..FIRST_RECORD]].concat());
    put(&mut chunk, 124, &header.to_le_bytes());
    let mut file = super::TestLog::default();
    file.chunk();
    let mut file = file.bytes()[..HEADER].to_vec();
    file.extend(chunk);
    file
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    /// Where each name stands, written where it was used first.
    names: HashMap<&'static str, u32>,
    latest_name: u32,
    templates: HashMap<usize, u32>,
}

impl Writer {
    fn record(&mut self, id: u64, templates: &[Element], template: usize, values: &[Value]) {
        let begins = self.bytes.len();
        self.bytes.extend(b"\x2a\x2a\x00\x00\0\0\0\0");
        self.bytes.extend(id.to_le_bytes());
        self.bytes.extend((133_000_000_000_000_000 + id * 1_234_567).to_le_bytes());
        self.instance(templates, template, values);
        while !(self.bytes.len() - begins + 4).is_multiple_of(8) {
            self.bytes.push(0);
        }
        let size = (self.bytes.len() - begins + 4) as u32;
        self.bytes.extend(size.to_le_bytes());
        put(&mut self.bytes, begins + 4, &size.to_le_bytes());
    }

    fn instance(&mut self, templates: &[Element], template: usize, values: &[Value]) {
        self.bytes.extend([0x0f, 1, 1, 0, 0x0c, 1, 7, 0, 0, 0]);
        match self.templates.get(&template) {
            Some(offset) => self.bytes.extend(offset.to_le_bytes()),
            None => {
                let offset = self.bytes.len() as u32 + 4;
                self.bytes.extend(offset.to_le_bytes());
                self.templates.insert(template, offset);
                self.definition(template, &templates[template]);
            }
        }
        self.bytes.extend((values.len() as u32).to_le_bytes());
        let descriptors = self.bytes.len();
        self.bytes.resize(descriptors + 4 * values.len(), 0);
        for (number, value) in values.iter().enumerate() {
            let from = self.bytes.len();
            let kind = match value {
                Value::Plain(kind, bytes) => {
                    self.bytes.extend(bytes);
                    *kind
                }
                Value::Inner(template, values) => {
                    self.instance(templates, *template, values);
                    0x21
                }
            };
            let size = (self.bytes.len() - from) as u16;
            put(&mut self.bytes, descriptors + 4 * number, &size.to_le_bytes());
            self.bytes[descriptors + 4 * number + 2] = kind;
        }
        self.bytes.push(0);
    }

    fn definition(&mut self, number: usize, root: &Element) {
        self.bytes.extend([0; 4]);
        self.bytes.extend([number as u8; 16]);
        let size_at = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend([0x0f, 1, 1, 0]);
        self.element(root);
        self.bytes.push(0);
        let size = (self.bytes.len() - size_at - 4) as u32;
        put(&mut self.bytes, size_at, &size.to_le_bytes());
    }

    fn element(&mut self, element: &Element) {
        self.bytes.push(if element.attributes.is_empty() { 0x01 } else { 0x41 });
        self.bytes.extend(element.dependency.unwrap_or(0xffff).to_le_bytes());
        self.bytes.extend([0; 4]);
        self.name(element.name);
        if !element.attributes.is_empty() {
            self.bytes.extend([0; 4]);
        }
        for (name, content) in &element.attributes {
            self.bytes.push(0x06);
            self.name(name);
            self.content(content);
        }
        if element.children.is_empty() {
            self.bytes.push(0x03);
            return;
        }
        self.bytes.push(0x02);
        for node in &element.children {
            match node {
                Node::Content(content) => self.content(content),
                Node::Element(child) => self.element(child),
            }
        }
        self.bytes.push(0x04);
    }

    fn content(&mut self, content: &Content) {
        match content {
            Content::Text(text) => {
                self.bytes.extend([0x05, 0x01]);
                self.bytes.extend((text.encode_utf16().count() as u16).to_le_bytes());
                self.bytes.extend(utf16(text));
            }
            Content::Slot(slot) => {
                self.bytes.push(0x0d);
                self.bytes.extend(slot.to_le_bytes());
                self.bytes.push(0x01);
            }
        }
    }

    fn name(&mut self, name: &'static str) {
        if let Some(offset) = self.names.get(name) {
            self.bytes.extend(offset.to_le_bytes());
            return;
        }
        let offset = self.bytes.len() as u32 + 4;
        self.names.insert(name, offset);
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend(self.latest_name.to_le_bytes());
        self.latest_name = offset;
        self.bytes.extend([0; 2]);
        self.bytes.extend((name.encode_utf16().count() as u16).to_le_bytes());
        self.bytes.extend(utf16(name));
        self.bytes.extend([0; 2]);
    }
}
