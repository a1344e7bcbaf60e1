//! Lifelines in words: how they are said at the command line, and how those that are known by name are.
//!
//! A name is looked up by the hub, never here and never on the machine: what is signed are its addresses.

use std::net::IpAddr;

use anyhow::Result;
use cordon_hub::control::{Answer, Request};
use cordon_hub::view::NameNow;
use cordon_model::asset::{Assignment, Direction, Lifeline, PortRange, Transport};
use cordon_model::named::{HostName, NamedDraft, NamedLifeline, Service};
use cordon_model::time::UtcNanos;
use cordon_model::well_known::{WELL_KNOWN, well_known};
use cordon_respond::names::Pin;
use ipnet::IpNet;

use crate::cli::StateArg;
use crate::control::{ask_at, block_on, lifeline_words, plain, tell, unexpected};
use crate::keeper;

/// A lifeline as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// To an address or a network.
    Pinned(Lifeline),
    /// To a name.
    Named(NamedDraft),
}

/// What follows the flow itself: `at ADDRESSES`, `within NETWORKS`, `signed-off-by NAME`.
#[derive(Debug, Default)]
struct Terms {
    at: Vec<IpAddr>,
    within: Vec<IpNet>,
    signed_off_by: Option<String>,
}

/// One lifeline: `smb:files.trust.example`, `pacs.trust.example:104/tcp`, or
/// `NAME=outbound tcp PEER PORTS` where the peer is an address, a network or a name.
///
/// # Errors
/// What is wrong, for the person who typed it.
pub fn said(text: &str) -> Result<Said, String> {
    let (flow, signed_off_by) = match text.split_once(" signed-off-by ") {
        Some((flow, by)) => (flow, Some(by.trim().to_owned())),
        None => (text, None),
    };
    let terms = Terms { signed_off_by, ..Terms::default() };
    match flow.split_once('=') {
        Some((name, rest)) => in_full(name.trim(), rest, terms),
        None => in_short(flow, terms),
    }
}

fn in_full(name: &str, rest: &str, terms: Terms) -> Result<Said, String> {
    const FORM: &str =
        "a lifeline is NAME=outbound tcp PEER PORTS, HOST:PORT/tcp, or a need such as smb:HOST";
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [direction, transport, peer, ports, more @ ..] = &words[..] else {
        return Err(FORM.into());
    };
    let terms = terms_of(more, terms)?;
    let (transport, ports) = (transport_of(transport)?, ports_of(ports)?);
    let direction = match *direction {
        "inbound" => Direction::Inbound,
        "outbound" => Direction::Outbound,
        other => return Err(format!("{other:?} is neither inbound nor outbound")),
    };
    let network = peer.parse::<IpNet>().or_else(|_| peer.parse::<IpAddr>().map(IpNet::from));
    let Ok(peer) = network else {
        let host = peer.parse::<HostName>().map_err(|error| {
            format!("{peer:?} is no address, no network and no full name: {error}")
        })?;
        return Ok(named(name, host, &[(transport, ports)], direction, terms));
    };
    if !(terms.at.is_empty() && terms.within.is_empty()) {
        return Err("`at` and `within` are for a name, not for an address".into());
    }
    let (name, signed_off_by) = (name.to_owned(), terms.signed_off_by);
    let lifeline = Lifeline { name, peer, transport, ports, direction, signed_off_by };
    lifeline.check().map_err(|error| error.to_string())?;
    Ok(Said::Pinned(lifeline))
}

fn in_short(flow: &str, terms: Terms) -> Result<Said, String> {
    let words: Vec<&str> = flow.split_whitespace().collect();
    let needs = || WELL_KNOWN.iter().map(|known| known.word).collect::<Vec<_>>().join(", ");
    let form =
        || format!("a need is one of {} with the name, such as smb:files.trust.example", needs());
    let [what, more @ ..] = &words[..] else { return Err(form()) };
    let terms = terms_of(more, terms)?;
    let (first, rest) = what.split_once(':').ok_or_else(form)?;
    if let Some(known) = well_known(first) {
        let host = rest.parse::<HostName>().map_err(|error| error.to_string())?;
        let services: Vec<_> =
            known.services.iter().map(|one| (one.transport, one.ports)).collect();
        let name = format!("{} at {host}", known.called);
        return Ok(named(&name, host, &services, Direction::Outbound, terms));
    }
    let host = first.parse::<HostName>().map_err(|error| format!("{error}; {}", form()))?;
    let (ports, transport) = rest.split_once('/').ok_or("a service is PORT/tcp or PORT/udp")?;
    let service = (transport_of(transport)?, ports_of(ports)?);
    Ok(named(what, host, &[service], Direction::Outbound, terms))
}

fn named(
    name: &str,
    host: HostName,
    services: &[(Transport, PortRange)],
    direction: Direction,
    Terms { at, within, signed_off_by }: Terms,
) -> Said {
    let services = services.iter().map(|(transport, ports)| Service {
        transport: *transport,
        ports: *ports,
        direction,
        signed_off_by: signed_off_by.clone(),
    });
    let services = services.collect();
    Said::Named(NamedDraft {
        named: NamedLifeline { name: name.to_owned(), host, within },
        at,
        services,
    })
}

fn terms_of(words: &[&str], mut terms: Terms) -> Result<Terms, String> {
    for pair in words.chunks(2) {
        match pair {
            ["at", list] => {
                for text in list.split(',') {
                    let address = text.parse().map_err(|_| format!("{text:?} is no address"))?;
                    terms.at.push(address);
                }
            }
            ["within", list] => {
                for text in list.split(',') {
                    let network = text
                        .parse()
                        .map_err(|_| format!("{text:?} is no network, such as 10.20.0.0/16"))?;
                    terms.within.push(network);
                }
            }
            _ => {
                return Err(format!(
                    "{:?} is not understood: what may follow is `at ADDRESS,ADDRESS`, `within \
                     NETWORK,NETWORK` and `signed-off-by NAME`",
                    pair.join(" ")
                ));
            }
        }
    }
    Ok(terms)
}

fn transport_of(text: &str) -> Result<Transport, String> {
    match text {
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        other => Err(format!("{other:?} is neither tcp nor udp")),
    }
}

fn ports_of(text: &str) -> Result<PortRange, String> {
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port"));
    Ok(match text.split_once('-') {
        Some((first, last)) => PortRange { first: port(first)?, last: port(last)? },
        None => PortRange::one(port(text)?),
    })
}

/// The lifelines of an assignment, and what their names are.
pub fn in_words(assignment: &Assignment) -> String {
    let mut text = String::new();
    for lifeline in &assignment.lifelines {
        text += &format!("  lifeline   {}\n", plain(&lifeline_words(lifeline)));
    }
    for named in &assignment.names {
        let pinned: Vec<String> =
            named.pinned(assignment).iter().map(ToString::to_string).collect();
        let within: Vec<String> = named.within.iter().map(ToString::to_string).collect();
        let follows = match within.is_empty() {
            true => "further addresses are for people to confirm".to_owned(),
            false => format!(
                "followed within {}, but over ports that intruders move by",
                within.join(", ")
            ),
        };
        text += &format!("  name       {} is {}; {follows}\n", named.host, pinned.join(", "));
    }
    if assignment.lifelines.is_empty() {
        text += "  lifelines  none\n";
    }
    for path in &assignment.watched {
        text += &format!("  watched    {} for denied contents\n", plain(&path.to_string()));
    }
    for named in assignment.protected.names() {
        text += &format!("  protected  {}\n", plain(&named));
    }
    if assignment.protected.is_empty() {
        text += "  protected  nothing is named\n";
    }
    text
}

/// `cordon lifelines`
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Lifelines {
    /// How the names of lifelines are: what is pinned, and what people have to confirm
    Show(Which),
    /// Look the names up now, and show them
    Look(Which),
    /// Confirm addresses of a name: they are kept alive too
    Confirm(Confirm),
}

#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id; all of them if not given.
    machine: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Confirm {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    /// The name.
    host: HostName,
    /// Addresses that are kept alive too.
    #[arg(required_unless_present = "drop")]
    addresses: Vec<IpAddr>,
    /// An address that is kept alive no more. May be repeated.
    #[arg(long)]
    drop: Vec<IpAddr>,
    /// Who accepts the risk, where a port that intruders move by is needed; you, if not given.
    #[arg(long)]
    signed_off_by: Option<String>,
    /// Have them signed without a typed yes, which root is asked for on a terminal.
    #[arg(long)]
    yes: bool,
}

/// Runs it.
pub fn run(what: &Lifelines) -> Result<()> {
    match what {
        Lifelines::Show(which) => show(which, false),
        Lifelines::Look(which) => show(which, true),
        Lifelines::Confirm(confirm) => {
            let pin = Pin {
                host: confirm.host.clone(),
                add: confirm.addresses.iter().copied().collect(),
                drop: confirm.drop.iter().copied().collect(),
                signed_off_by: confirm.signed_off_by.clone(),
            };
            let layout = confirm.state.layout();
            let confirmed = keeper::confirm(&layout, &confirm.machine, pin, confirm.yes);
            let assignment = block_on(confirmed)?;
            tell(&format!("{} has\n{}", plain(&confirm.machine), in_words(&assignment)))
        }
    }
}

fn show(which: &Which, looks: bool) -> Result<()> {
    let request = Request::Names { machine: which.machine.clone(), looks };
    let (rows, total) = match ask_at(&which.state, request)? {
        Answer::Names { rows, total } => (rows, total),
        other => return unexpected(&other),
    };
    let mut text = String::new();
    for (machine, names) in &rows {
        text += &format!("{}\n", plain(machine));
        for name in names {
            text += &name_words(machine, name);
        }
    }
    text += &format!("{} of {total} machines with lifelines that are known by name\n", rows.len());
    tell(&text)
}

fn name_words(machine: &str, name: &NameNow) -> String {
    let list = |addresses: &[IpAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let ago = |at: UtcNanos| format!("{} s ago", UtcNanos::now().since(at).as_secs());
    let mut text = format!("  {} ({})\n", name.host, plain(&name.called.join("; ")));
    text += &format!("    kept alive at   {}\n", list(&name.pinned));
    text += &match name.within.is_empty() {
        true => "    followed        nowhere: a person confirms each further address\n".to_owned(),
        false => format!("    followed        within {}\n", name.within.join(", ")),
    };
    text += &match (&name.looked_at, &name.trouble, &name.answered_at) {
        (None, ..) => "    looked up       not since the hub started\n".to_owned(),
        (Some(at), None, _) => format!("    looked up       {}\n", ago(*at)),
        (Some(at), Some(why), answered) => format!(
            "    NO ANSWER       {}: {}; last answer {}; what is kept alive stays so\n",
            ago(*at),
            plain(why),
            answered.map_or("never since the hub started".to_owned(), ago),
        ),
    };
    if !name.unanswered.is_empty() && name.trouble.is_none() {
        text += &format!(
            "    not answered    {}: kept alive all the same, until a person drops it (--drop)\n",
            list(&name.unanswered)
        );
    }
    for (address, why) in &name.to_confirm {
        text += &format!("    TO CONFIRM      {address}: {why} (machine {})\n", plain(machine));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_name(text: &str) -> NamedDraft {
        match said(text).unwrap() {
            Said::Named(draft) => draft,
            Said::Pinned(lifeline) => panic!("{lifeline:?}"),
        }
    }

    #[test]
    fn a_lifeline_is_written_in_words() {
        let Said::Pinned(dicom) = said("DICOM to the PACS=outbound tcp 10.0.0.1 11112").unwrap()
        else {
            panic!()
        };
        assert_eq!(dicom.peer, "10.0.0.1/32".parse().unwrap());
        assert_eq!(lifeline_words(&dicom), "DICOM to the PACS (tcp 11112 outbound to 10.0.0.1/32)");
        assert!(said("files=outbound tcp 10.0.0.0/8 445").is_err());
        assert!(said("files=outbound tcp 10.0.0.1 445 signed-off-by Dr A").is_ok());
        assert!(said("nonsense").is_err());
        assert!(said("x=outbound tcp 10.0.0.1 104 within 10.0.0.0/8").is_err());
    }

    #[test]
    fn a_lifeline_by_name_is_said_in_full_in_short_or_as_a_need() {
        let full =
            by_name("PACS=outbound tcp pacs.trust.example 104-110 within 10.0.0.0/8,fd00::/8");
        assert_eq!(full.named.host.as_str(), "pacs.trust.example");
        assert_eq!((full.named.name.as_str(), full.named.within.len()), ("PACS", 2));
        assert_eq!(full.services[0].ports, PortRange { first: 104, last: 110 });
        let short = by_name("pacs.trust.example:104/udp at 10.0.0.1,fd00::1");
        assert_eq!(short.services[0].transport, Transport::Udp);
        assert_eq!(short.at.len(), 2);
        let need = by_name("logon:dc.trust.example within 10.0.0.0/8 signed-off-by Dr Osei");
        assert_eq!(need.named.name, "logon at dc.trust.example");
        assert_eq!(need.services.len(), well_known("logon").unwrap().services.len());
        assert!(need.services.iter().all(|one| one.signed_off_by.as_deref() == Some("Dr Osei")));
        for wrong in [
            "nothing:files.trust.example",
            "smb:files",
            "smb:10.0.0.1",
            "pacs.trust.example:104",
            "pacs.trust.example:104/icmp",
            "smb:files.trust.example at nowhere",
            "smb:files.trust.example somewhere",
        ] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }
}
