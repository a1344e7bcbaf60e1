//! A template's definition as it stands in a chunk, read to a tree.
//!
//! Only what Windows' own templates are made of is read: elements, attributes of one literal or one value,
//! text, places for values. Anything else makes the template one for the `evtx` crate.

/// The header of a definition: where the next one is, a GUID, the size of what follows.
pub(super) const HEADER_BYTES: usize = 24;

/// The largest definition that is read. The largest of the shared corpus is 5 KiB.
pub(super) const BODY_BYTES: usize = 16 << 10;

/// Most elements, attributes and values of a template: five times what the fullest of the shared corpus has.
pub(super) const NODES: usize = 575;

/// Most characters of a name, in UTF-16. Windows' longest are some 40.
const NAME_UNITS: usize = 128;

/// Deepest nesting. Windows' are 5 deep.
const DEPTH: usize = 16;

/// An element of a template.
#[derive(Debug)]
pub(super) struct Element {
    pub name: String,
    /// The value without which it is left out.
    pub dependency: Option<u16>,
    pub attributes: Vec<(String, Content)>,
    pub children: Vec<Node>,
}

/// A literal text, or the place of a value.
#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    Slot(u16),
}

#[derive(Debug)]
pub(super) enum Node {
    Content(Content),
    Element(Element),
}

/// A place in a definition that names an element or an attribute.
#[derive(Debug)]
pub(super) struct NameAt {
    /// Where in the body the reference stands.
    pub at: usize,
    /// The name's length and characters, as they stand elsewhere in the chunk; None if they follow here.
    pub elsewhere: Option<Box<[u8]>>,
}

/// A definition that was read.
#[derive(Debug)]
pub(super) struct Definition {
    pub root: Element,
    pub names: Vec<NameAt>,
    /// Its elements, attributes and values, as far as they are counted.
    pub nodes: usize,
}

impl Definition {
    /// What the names take that are kept with it, in bytes.
    pub(super) fn name_bytes(&self) -> usize {
        self.names.iter().filter_map(|name| name.elsewhere.as_ref()).map(|name| name.len()).sum()
    }
}

/// GUID and size of the definition at `offset`.
pub(super) fn identity(chunk: &[u8], offset: usize) -> Option<([u8; 16], usize)> {
    let header = chunk.get(offset..)?.first_chunk::<HEADER_BYTES>()?;
    let (guid, size) = header.get(4..)?.split_first_chunk::<16>()?;
    Some((*guid, u32::from_le_bytes(size.try_into().ok()?) as usize))
}

/// The definition's body.
pub(super) fn body(chunk: &[u8], offset: usize, size: usize) -> Option<&[u8]> {
    let start = offset + HEADER_BYTES;
    chunk.get(start..start.checked_add(size)?).filter(|body| body.len() <= BODY_BYTES)
}

/// Reads the definition at `offset`.
pub(super) fn read(chunk: &[u8], offset: usize) -> Option<Definition> {
    let (_, size) = identity(chunk, offset)?;
    let body = body(chunk, offset, size)?;
    let mut reader =
        Reader { chunk, body, starts: offset + HEADER_BYTES, at: 0, names: Vec::new(), nodes: 0 };
    let root = reader.tree()?;
    Some(Definition { root, names: reader.names, nodes: reader.nodes })
}

/// A name: its length, its characters and the zero that ends it, at `at`.
pub(super) fn name_at(chunk: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_le_bytes(*chunk.get(at..)?.first_chunk()?));
    chunk.get(at..at + 2 + 2 * length + 2)
}

struct Reader<'c> {
    chunk: &'c [u8],
    body: &'c [u8],
    /// Where the body begins in the chunk.
    starts: usize,
    at: usize,
    names: Vec<NameAt>,
    nodes: usize,
}

/// An element whose start is being read.
struct Opened {
    element: Element,
    attribute: Option<(String, Option<Content>)>,
}

impl Opened {
    fn end_attribute(&mut self) {
        if let Some((name, Some(content))) = self.attribute.take() {
            self.element.attributes.push((name, content));
        }
    }

    fn finish(mut self) -> Element {
        self.end_attribute();
        self.element
    }
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.body.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(bytes)
    }

    fn tree(&mut self) -> Option<Element> {
        let mut opened: Option<Opened> = None;
        let mut stack: Vec<Element> = Vec::new();
        let mut root = None;
        while self.at < self.body.len() {
            let [token] = self.take()?;
            self.nodes += 1;
            if self.nodes > NODES {
                return None;
            }
            match token {
                0x00 => break,
                0x0f => _ = self.take::<3>()?,
                0x01 | 0x41 if opened.is_none() => {
                    let dependency = u16::from_le_bytes(self.take()?);
                    self.take::<4>()?;
                    let name = self.name()?;
                    if token == 0x41 {
                        self.take::<4>()?;
                    }
                    let element = Element {
                        name,
                        dependency: (dependency != 0xffff).then_some(dependency),
                        attributes: Vec::new(),
                        children: Vec::new(),
                    };
                    opened = Some(Opened { element, attribute: None });
                }
                0x02 if stack.len() < DEPTH => stack.push(opened.take()?.finish()),
                0x03 | 0x04 => {
                    let element = match token {
                        0x03 => opened.take()?.finish(),
                        _ if opened.is_some() => return None,
                        _ => stack.pop()?,
                    };
                    match stack.last_mut() {
                        Some(parent) => parent.children.push(Node::Element(element)),
                        None if root.is_none() => root = Some(element),
                        None => return None,
                    }
                }
                0x06 | 0x46 => {
                    let name = self.name()?;
                    let opened = opened.as_mut()?;
                    opened.end_attribute();
                    opened.attribute = Some((name, None));
                }
                0x05 | 0x45 | 0x0d | 0x0e => {
                    let content = self.content(token)?;
                    match &mut opened {
                        Some(Opened { attribute: Some((_, value @ None)), .. }) => {
                            *value = Some(content);
                        }
                        Some(_) => return None,
                        None => stack.last_mut()?.children.push(Node::Content(content)),
                    }
                }
                _ => return None,
            }
        }
        root.filter(|_| opened.is_none() && stack.is_empty())
    }

    fn content(&mut self, token: u8) -> Option<Content> {
        if matches!(token, 0x0d | 0x0e) {
            let slot = u16::from_le_bytes(self.take()?);
            let [kind] = self.take()?;
            let is_known = matches!(kind & 0x7f, 0x00..=0x15) || matches!(kind, 0x20 | 0x21 | 0x23);
            return (is_known && kind != 0x80).then_some(Content::Slot(slot));
        }
        let [kind, low, high] = self.take()?;
        if kind != 0x01 {
            return None;
        }
        let length = 2 * usize::from(u16::from_le_bytes([low, high]));
        let bytes = self.body.get(self.at..self.at + length)?;
        self.at += length;
        let mut text = Vec::new();
        super::slot::put_utf16(bytes, &mut text);
        Some(Content::Text(String::from_utf8(text).ok()?))
    }

    /// A name by its place in the chunk, which may be right here.
    fn name(&mut self) -> Option<String> {
        let at = self.at;
        let offset = u32::from_le_bytes(self.take()?) as usize;
        let is_here = offset == self.starts + self.at;
        let name = name_at(self.chunk, offset + 6)?;
        if name.len() > 2 + 2 * NAME_UNITS + 2 {
            return None;
        }
        self.names.push(NameAt { at, elsewhere: (!is_here).then(|| name.into()) });
        if is_here {
            self.at += 6 + name.len();
            if self.at > self.body.len() {
                return None;
            }
        }
        let units = name.get(2..name.len() - 2)?.as_chunks::<2>().0.iter();
        let units = units.map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
        let name: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
        // Names are written into JSON as they are.
        let is_plain = |letter: char| letter >= ' ' && !matches!(letter, '"' | '\\' | '#');
        (!name.is_empty() && name.chars().all(is_plain)).then_some(name)
    }
}
