//! Saying what a machine is: its name, tier, kind, group and lifelines.
//!
//! The one idea: lifelines are lines of text, one flow a line, so that they can be read aloud, copied from
//! machine to machine and typed without JavaScript. [`lifeline_lines`] and [`lifelines_from`] are exact
//! opposites; what is wrong is said with its line.

use cordon_hub::view::{AssignmentDraft, MachineView};
use cordon_model::action::FilePath;
use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Protected, Transport};
use cordon_model::guidance::{Bedside, Contact, MOST_CONTACTS, check_contacts};
use cordon_model::limits;
use cordon_model::named::{HostName, NamedDraft, NamedLifeline, Service};
use ipnet::IpNet;
use maud::{Markup, html};

use crate::page::{Frame, Place, text_field};
use crate::text::Shown;

/// What a person typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Typed {
    /// Name.
    pub name: String,
    /// `0` to `3`, or empty.
    pub tier: String,
    /// Kind.
    pub kind: String,
    /// Group.
    pub group: String,
    /// One flow a line.
    pub lifelines: String,
    /// What care needs there, one a line.
    pub protected: String,
    /// Where it stands.
    pub place: String,
    /// Where to go when no other of its kind works.
    pub instead: String,
    /// Whom to ring, one a line.
    pub ring: String,
}

impl Typed {
    /// What is said now.
    pub fn of(view: &MachineView) -> Self {
        let bedside = view.bedside.clone().unwrap_or_default();
        let Some(assignment) = &view.assignment else {
            return Self { name: view.row.name.clone(), ..Self::default() };
        };
        Self {
            place: bedside.place.unwrap_or_default(),
            instead: bedside.instead.unwrap_or_default(),
            ring: contact_lines(&bedside.ring),
            name: assignment.name.clone(),
            tier: assignment.tier.map(|tier| tier.number().to_string()).unwrap_or_default(),
            kind: assignment.kind.clone().unwrap_or_default(),
            group: assignment.group.clone().unwrap_or_default(),
            lifelines: lifeline_lines(&assignment.lifelines, &assignment.names),
            protected: protected_lines(&assignment.protected),
        }
    }

    /// The draft that it makes, or what is wrong with it.
    ///
    /// # Errors
    /// A sentence for the person who typed.
    pub fn draft(&self) -> Result<AssignmentDraft, String> {
        let said = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let tier = match said(&self.tier) {
            None => None,
            Some(text) => Some(
                text.parse()
                    .ok()
                    .and_then(ClinicalTier::from_number)
                    .ok_or("the tier is a number from 0 to 3, or not said")?,
            ),
        };
        let (lifelines, named) = lifelines_from(&self.lifelines)?;
        Ok(AssignmentDraft {
            name: said(&self.name),
            tier,
            kind: said(&self.kind),
            group: said(&self.group),
            lifelines,
            named,
            names: Vec::new(),
            protected: Some(protected_from(&self.protected)?),
            watched: None,
            bedside: Some(Bedside {
                place: said(&self.place),
                instead: said(&self.instead),
                ring: contacts_from(&self.ring)?,
            }),
        })
    }
}

/// The form; `problem` says what was wrong with what was typed.
pub fn page(frame: &Frame, view: &MachineView, typed: &Typed, problem: Option<&str>) -> Markup {
    let title = format!("What {} is", view.row.name);
    let tiers = [
        ("", "Not said: treated as clinical"),
        ("0", "Tier 0: no care depends on it"),
        ("1", "Tier 1: supports care, which goes on without it"),
        ("2", "Tier 2: clinical"),
        ("3", "Tier 3: life-sustaining; never isolated without two people, one of them clinical"),
    ];
    let main = html! {
        p { a.back href={ "/machines/" (view.row.id) } { "Back to the machine" } }
        h1 { "What " (Shown(&view.row.name)) " is" }
        @if let Some(problem) = problem {
            div.notice.notice--bad role="alert" { h2 { "This can’t be taken" } p { (Shown(problem)) } }
        }
        p { "The signer signs it, with your name, and the agent keeps it before any incident. All of it that is other \
             than what was signed, its name and what people are told too, takes root on the hub’s machine, with "
             code { "cordon assign" } ": else it is refused here." }
        (frame.form(&format!("/machines/{}/assignment", view.row.id), &html! {
            (text_field("name", "Name", "As your organisation calls it.", &typed.name, 1))
            fieldset.nhsuk-fieldset.nhsuk-form-group {
                legend.nhsuk-fieldset__legend { "How care depends on it" }
                @for (value, meaning) in tiers {
                    @let id = format!("tier-{value}");
                    div.radio {
                        input type="radio" name="tier" id=(id) value=(value) checked[typed.tier == value];
                        label for=(id) { (meaning) }
                    }
                }
            }
            (text_field("kind", "Kind", "Where others of the same kind can stand in for it: CT workstation. Else leave it empty.", &typed.kind, 1))
            (text_field("group", "Group", "Ward or department.", &typed.group, 1))
            (text_field("lifelines", "Lifelines: flows that must live, one a line",
                "name | to or from | address, network or name | tcp or udp | port or ports | who signed it off | \
                 within. For example: DICOM to the PACS | to | 10.0.4.9 | tcp | 11112. Who signed it off is \
                 needed only for services that isolation cuts, and then the address is one machine’s. A name \
                 (pacs.trust.example) is resolved when you save, and its addresses are signed: look at them \
                 on the machine’s page. Within: a network in which further addresses of the name are \
                 followed without a person.",
                &typed.lifelines, 6))
            (text_field("protected", "What care needs on it, one a line",
                "program | /opt/pacs/bin/viewer, or unit | pacs-viewer.service (of systemd), or \
                 cgroup | /machine.slice/modality (and all below it). No order stops these, whoever gives \
                 it: people are asked. Empty: nothing is protected.",
                &typed.protected, 4))
            h2 { "What the person in front of it is told when it is cut off" }
            (text_field("place", "Where it stands", "So that people find it as the next one: Ward 7, bay 2.", &typed.place, 1))
            (text_field("instead", "Where to go instead", "When no other of its kind is known to work: CT of A&E, ground floor.", &typed.instead, 1))
            (text_field("ring", "Whom to ring, one a line",
                "who | number. For example: Security operations | 5555. Empty: as the policy says.",
                &typed.ring, 3))
            div.choosing {
                button.nhsuk-button type="submit" { "Sign and save" }
                a href={ "/machines/" (view.row.id) } { "Change nothing" }
            }
        }))
    };
    frame.still(&title, Place::Machines, &main)
}

/// Lifelines as lines of text: those that are known by name by their names, each service once.
pub fn lifeline_lines(lifelines: &[Lifeline], names: &[NamedLifeline]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for lifeline in lifelines {
        let named = names.iter().find(|named| named.name == lifeline.name);
        let line = lifeline_line(lifeline, named);
        // Of a name each address is a lifeline, and the line is the same, whoever signed that address off.
        let is_same = |known: &String| named.is_some() && service_of(known) == service_of(&line);
        if !lines.iter().any(is_same) {
            lines.push(line);
        }
    }
    lines.concat()
}

/// A line up to its ports.
fn service_of(line: &str) -> Vec<&str> {
    line.trim_end().split(" | ").take(5).collect()
}

fn lifeline_line(lifeline: &Lifeline, named: Option<&NamedLifeline>) -> String {
    let direction = match lifeline.direction {
        Direction::Inbound => "from",
        Direction::Outbound => "to",
    };
    let transport = match lifeline.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let peer = named.map_or_else(|| lifeline.peer.to_string(), |named| named.host.to_string());
    let PortRange { first, last } = lifeline.ports;
    let mut line = format!("{} | {direction} | {peer} | {transport} | {first}", lifeline.name);
    if last != first {
        line += &format!("-{last}");
    }
    let within: Vec<String> =
        named.iter().flat_map(|named| &named.within).map(ToString::to_string).collect();
    match (&lifeline.signed_off_by, within.is_empty()) {
        (None, true) => {}
        (Some(person), true) => line += &format!(" | {person}"),
        (person, false) => {
            let person = person.as_deref().unwrap_or_default();
            line += &format!(" | {person} | {}", within.join(", "));
        }
    }
    line + "\n"
}

/// Lifelines from lines of text: those to addresses, and those to names.
///
/// # Errors
/// A sentence with the line that is wrong.
pub fn lifelines_from(lines: &str) -> Result<(Vec<Lifeline>, Vec<NamedDraft>), String> {
    let (mut lifelines, mut names) = (Vec::new(), Vec::new());
    let mut count = 0;
    for (index, line) in lines.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        if count == limits::LIFELINES_PER_MACHINE {
            return Err(format!(
                "one machine may have {} lifelines",
                limits::LIFELINES_PER_MACHINE
            ));
        }
        count += 1;
        let wrong = |why: String| format!("lifeline on line {}: {why}", index + 1);
        match lifeline_from(line).map_err(wrong)? {
            Line::Pinned(lifeline) => {
                lifeline.check().map_err(|error| wrong(error.to_string()))?;
                lifelines.push(lifeline);
            }
            Line::Named(named, service) => add_named(&mut names, named, service).map_err(wrong)?,
        }
    }
    Ok((lifelines, names))
}

/// Several lines of one name are one lifeline with several services.
fn add_named(
    names: &mut Vec<NamedDraft>,
    named: NamedLifeline,
    service: Service,
) -> Result<(), String> {
    match names.iter_mut().find(|known| known.named.name == named.name) {
        Some(known) if known.named == named => known.services.push(service),
        Some(_) => return Err("it has another name or bound above: call it otherwise".into()),
        None => names.push(NamedDraft { named, at: Vec::new(), services: vec![service] }),
    }
    Ok(())
}

/// What care needs on a machine, as lines of text.
pub fn protected_lines(protected: &Protected) -> String {
    let Protected { units, cgroups, executables } = protected;
    let programs = executables.iter().map(|path| (PROGRAM, path.as_bytes()));
    let units = units.iter().map(|unit| (UNIT, unit.as_bytes()));
    let cgroups = cgroups.iter().map(|cgroup| (CGROUP, cgroup.as_bytes()));
    let lines = programs.chain(units).chain(cgroups);
    lines.map(|(kind, name)| format!("{kind} | {}\n", escaped(name))).collect()
}

/// What care needs on a machine, from lines of text.
///
/// # Errors
/// A sentence with the line that is wrong.
pub fn protected_from(lines: &str) -> Result<Protected, String> {
    let mut protected = Protected::default();
    let said = lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (index, line) in said {
        let wrong = |why: &str| format!("what care needs, line {}: {why}", index + 1);
        let (kind, name) = line
            .split_once('|')
            .ok_or_else(|| wrong("it is: program, unit or cgroup, then |, then which"))?;
        let name =
            unescaped(name.trim()).ok_or_else(|| wrong("\\ is \\\\ or \\x and two digits"))?;
        let text = |name| String::from_utf8(name).map_err(|_| wrong("this is a name, of text"));
        match kind.trim().to_ascii_lowercase().as_str() {
            PROGRAM => {
                let path = FilePath::new(name);
                path.check().map_err(|error| wrong(&error.to_string()))?;
                protected.executables.push(path);
            }
            UNIT if name.is_empty() => return Err(wrong("which unit?")),
            UNIT => protected.units.push(text(name)?),
            CGROUP if !name.starts_with(b"/") => {
                return Err(wrong("a control group begins with /, as /machine.slice/modality"));
            }
            CGROUP => protected.cgroups.push(text(name)?),
            _ => return Err(wrong("the first part is program, unit or cgroup")),
        }
        if !protected.is_short() {
            return Err(format!("what care needs on one machine is {} at most", limits::PROTECTED));
        }
    }
    Ok(protected)
}

const PROGRAM: &str = "program";
const UNIT: &str = "unit";
const CGROUP: &str = "cgroup";

/// A name in a line, that [`unescaped`] gives back to the byte: a form that is only looked at and saved may not
/// change what is protected.
fn escaped(name: &[u8]) -> String {
    let mut line = String::new();
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => line += "\\\\",
                // The ends of a line are trimmed, and a text area knows its own line breaks.
                ' ' => line.push(' '),
                _ if letter.is_control() || letter.is_whitespace() => {
                    let mut bytes = [0; 4];
                    let bytes = letter.encode_utf8(&mut bytes).as_bytes();
                    bytes.iter().for_each(|byte| line += &format!("\\x{byte:02x}"));
                }
                _ => line.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| line += &format!("\\x{byte:02x}"));
    }
    let is_trimmed = |line: &str| line.trim_matches(' ').len() == line.len();
    match is_trimmed(&line) {
        true => line,
        false => {
            let inner = line.trim_matches(' ');
            let start = line.len() - line.trim_start_matches(' ').len();
            let end = line.len() - inner.len() - start;
            format!("{}{inner}{}", "\\x20".repeat(start), "\\x20".repeat(end))
        }
    }
}

fn unescaped(line: &str) -> Option<Vec<u8>> {
    let (mut name, mut rest) = (Vec::new(), line);
    while let Some((before, after)) = rest.split_once('\\') {
        name.extend(before.as_bytes());
        rest = if let Some(after) = after.strip_prefix('\\') {
            name.push(b'\\');
            after
        } else {
            let digits = after.strip_prefix('x')?.get(..2)?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            name.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
            after.get(3..)?
        };
    }
    name.extend(rest.as_bytes());
    Some(name)
}

/// Whom to ring, as lines of text.
pub fn contact_lines(ring: &[Contact]) -> String {
    ring.iter().map(|contact| format!("{} | {}\n", contact.who, contact.number)).collect()
}

/// Whom to ring, from lines of text.
///
/// # Errors
/// A sentence with the line that is wrong.
pub fn contacts_from(lines: &str) -> Result<Vec<Contact>, String> {
    let mut ring = Vec::new();
    let said = lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (index, line) in said.take(MOST_CONTACTS + 1) {
        let wrong = |why: &str| format!("whom to ring, line {}: {why}", index + 1);
        let (who, number) = line.split_once('|').ok_or_else(|| wrong("it is: who | number"))?;
        let (who, number) = (who.trim().to_owned(), number.trim().to_owned());
        ring.push(Contact { who, number });
        check_contacts(&ring).map_err(|error| wrong(&error.to_string()))?;
    }
    Ok(ring)
}

/// What one line says.
enum Line {
    Pinned(Lifeline),
    Named(NamedLifeline, Service),
}

fn lifeline_from(line: &str) -> Result<Line, String> {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let [name, direction, peer, transport, ports, ref more @ ..] = parts[..] else {
        return Err("it needs five parts, six or seven, with | between them".into());
    };
    let (person, within) = match more {
        [] => ("", ""),
        [person] => (*person, ""),
        [person, within] => (*person, *within),
        _ => return Err("it needs five parts, six or seven, with | between them".into()),
    };
    let direction = match direction.to_ascii_lowercase().as_str() {
        "to" => Direction::Outbound,
        "from" => Direction::Inbound,
        _ => return Err("the second part is “to” or “from”".into()),
    };
    let transport = match transport.to_ascii_lowercase().as_str() {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return Err("the fourth part is “tcp” or “udp”".into()),
    };
    let port = |text: &str| {
        text.trim().parse::<u16>().map_err(|_| "ports are numbers: 11112 or 5000-5010")
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let ports = PortRange { first: port(first)?, last: port(last)? };
    let (name, signed_off_by) =
        (name.to_owned(), Some(person.to_owned()).filter(|person| !person.is_empty()));
    let network =
        peer.parse::<IpNet>().or_else(|_| peer.parse::<std::net::IpAddr>().map(IpNet::from));
    if let Ok(peer) = network {
        if !within.is_empty() {
            return Err("the seventh part is for a name, not for an address".into());
        }
        return Ok(Line::Pinned(Lifeline {
            name,
            peer,
            transport,
            ports,
            direction,
            signed_off_by,
        }));
    }
    let host: HostName = peer.parse().map_err(|_| {
        "the third part is an address, a network or a full name, such as 10.0.4.9, 10.0.4.0/24 or \
         pacs.trust.example"
    })?;
    let within = within.split(',').map(str::trim).filter(|text| !text.is_empty());
    let within: Vec<IpNet> = within
        .map(|text| text.parse().map_err(|_| "the seventh part is a network, such as 10.0.0.0/16"))
        .collect::<Result<_, _>>()?;
    let service = Service { transport, ports, direction, signed_off_by };
    Ok(Line::Named(NamedLifeline { name, host, within }, service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lifelines_survive_being_lines_of_text(
            name in "[A-Za-z0-9&<>\"' ]{0,20}[A-Za-z]", address in any::<u32>(), prefix in 0u8..=32,
            first in 1u16.., more in 0u16..50, is_tcp: bool, is_inbound: bool,
        ) {
            let lifeline = Lifeline {
                name: name.trim().to_owned(),
                peer: ipnet::Ipv4Net::new(address.into(), prefix).unwrap().into(),
                transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
                ports: PortRange { first, last: first.saturating_add(more) },
                direction: if is_inbound { Direction::Inbound } else { Direction::Outbound },
                signed_off_by: None,
            };
            prop_assume!(lifeline.check().is_ok());
            let lines = lifeline_lines(std::slice::from_ref(&lifeline), &[]);
            prop_assert_eq!(lifelines_from(&lines), Ok((vec![lifeline], vec![])));
        }

        #[test]
        fn no_text_of_lifelines_panics(lines in ".{0,200}") {
            let _ = lifelines_from(&lines);
            let _ = protected_from(&lines);
        }

        /// Whoever opens the form and saves it changes nothing.
        #[test]
        fn what_is_protected_survives_being_lines_of_text(
            path in prop::collection::vec(any::<u8>(), 1..20), unit in ".{0,10}[a-z.\\\\|]",
            cgroup in ".{0,10}",
        ) {
            let path = FilePath::new([b"/", &path[..]].concat());
            prop_assume!(path.check().is_ok());
            let protected = Protected {
                units: vec![unit],
                cgroups: vec![format!("/{cgroup}")],
                executables: vec![path],
            };
            let lines = protected_lines(&protected);
            prop_assert_eq!(lines.lines().count(), 3);
            prop_assert_eq!(protected_from(&lines), Ok(protected));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let wrong = lifelines_from(
            "PACS | to | 10.0.4.9 | tcp | 11112\n\nSMB | to | 10.0.0.0/8 | tcp | 445",
        );
        let why = wrong.unwrap_err();
        assert!(why.starts_with("lifeline on line 3:") && why.contains("pin its peer"), "{why}");
        assert!(lifelines_from("SMB | to | 10.0.0.1 | tcp | 445 | Dr A").is_ok());
        assert!(lifelines_from("only a name").unwrap_err().contains("five parts"));
    }

    #[test]
    fn a_name_is_a_line_for_each_service_and_never_its_addresses() {
        let lines = "PACS | to | pacs.trust.example | tcp | 104-110 |  | 10.0.0.0/16, fd00::/64\n\
                     files | to | files.trust.example | tcp | 443\n\
                     files | to | files.trust.example | tcp | 445 | Dr A\n";
        let (pinned, named) = lifelines_from(lines).unwrap();
        assert!(pinned.is_empty());
        assert_eq!(named.iter().map(|one| one.services.len()).collect::<Vec<_>>(), [1, 2]);
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let lifelines: Vec<Lifeline> = named
            .iter()
            .flat_map(|one| {
                let at = move |address| {
                    one.services.iter().map(move |of| of.at(address, &one.named.name))
                };
                addresses.into_iter().flat_map(at)
            })
            .collect();
        let names: Vec<NamedLifeline> = named.into_iter().map(|one| one.named).collect();
        assert_eq!(lifeline_lines(&lifelines, &names), lines);
        let other = "files | to | a.example | tcp | 1\nfiles | to | b.example | tcp | 2";
        assert!(lifelines_from(other).unwrap_err().starts_with("lifeline on line 2"));
        assert!(lifelines_from("PACS | to | 10.0.0.1 | tcp | 104 | | 10.0.0.0/8").is_err());
    }

    #[test]
    fn whom_to_ring_survives_being_lines_of_text_and_what_is_wrong_is_said_with_its_line() {
        let lines = "Security operations | 5555\nDuty manager | 020 7946 0000\n";
        assert_eq!(contact_lines(&contacts_from(lines).unwrap()), lines);
        assert!(contacts_from("x | 5555\n\nring me").unwrap_err().contains("line 3"));
        assert!(contacts_from("x | none").is_err());
        assert!(contacts_from(&"x | 5555\n".repeat(MOST_CONTACTS + 1)).is_err());
    }

    #[test]
    fn what_is_protected_is_said_with_its_line_if_it_is_wrong() {
        let typed =
            "program | /opt/pacs/viewer\r\n\r\nUnit | pacs.service\ncgroup | /machine.slice";
        let protected = protected_from(typed).unwrap();
        assert_eq!(protected.executables, [FilePath::new(&b"/opt/pacs/viewer"[..])]);
        assert_eq!(
            (protected.units, protected.cgroups),
            (vec!["pacs.service".to_owned()], vec!["/machine.slice".to_owned()],)
        );
        for wrong in
            ["/opt/x", "program | viewer", "unit |", "cgroup | a", "file | /a", "program | /a\\q"]
        {
            let why = protected_from(&format!("unit | a\n{wrong}")).unwrap_err();
            assert!(why.starts_with("what care needs, line 2:"), "{wrong}: {why}");
        }
        assert!(protected_from(&"unit | a\n".repeat(limits::PROTECTED + 1)).is_err());
        assert_eq!(protected_from(" \n"), Ok(Protected::default()));
    }

    #[test]
    fn a_tier_is_one_of_four_or_not_said() {
        let typed = |tier: &str| Typed { tier: tier.into(), ..Typed::default() }.draft();
        assert_eq!(typed("").unwrap().tier, None);
        assert_eq!(typed("3").unwrap().tier, Some(ClinicalTier::LifeSustaining));
        assert!(typed("4").is_err() && typed("-1").is_err() && typed("x").is_err());
    }
}
