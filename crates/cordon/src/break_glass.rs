//! `cordon break-glass`: opening a machine by a one-time code, and everything about the codes.
//!
//! The one idea: two people who may never meet. At the machine stands anybody, at night, with a code that
//! was read out; [`at_the_machine`] speaks to them and needs no right but to stand there. At the signer's
//! machine is root, who prints sheets by day and reads codes out at night; that needs neither hub nor
//! network. Codes are read from the keyboard and printed on paper: never an argument, never a log.

mod at_the_machine;
mod sheet;

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_hub::signer::Client;
use cordon_hub::signer::codes::{Asker, CodesAsk, ROWS, Sheet};
use cordon_model::ids::MachineId;
use cordon_respond::signer_core::{CodeFate, CodesRow};

use crate::accounts::Account;
use crate::cli::StateArg;
use crate::control::{Control, block_on, plain, tell, unexpected};
use crate::layout::Layout;
use sheet::date;

/// `cordon break-glass`
#[derive(Debug, Clone, clap::Args)]
pub struct BreakGlassArgs {
    #[command(flatten)]
    state: StateArg,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Print machines' codes, for sealed envelopes and the duty manager (as root, on the signer's machine)
    Print {
        /// The machines' names or ids.
        #[arg(required_unless_present = "all", value_name = "MACHINE")]
        machines: Vec<String>,
        /// Those of all machines.
        #[arg(long, conflicts_with = "machines")]
        all: bool,
        /// Why, for the record.
        #[arg(long)]
        reason: String,
        /// As a page for a browser to print, one machine a sheet, instead of text.
        #[arg(long)]
        html: bool,
        /// A new file for it, which only you can read; else it is written to standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Read one code out to somebody by phone (as root, on the signer's machine)
    Read {
        /// The machine's name or id.
        machine: String,
        /// Who is at the other end of the line.
        #[arg(long = "for", value_name = "NAME")]
        person: String,
        /// Why the machine must be open now.
        #[arg(long)]
        reason: String,
    },
    /// Which machines have codes, and how many are left (as root, on the signer's machine)
    List,
    /// Make other codes for a machine: the present ones are known to somebody who should not know them
    Renew {
        /// The machine's name or id.
        machine: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Does it.
pub fn run(args: &BreakGlassArgs) -> Result<ExitCode> {
    let layout = args.state.layout();
    match &args.what {
        None => return at_the_machine::open(&args.state.machines_layout().door_socket()),
        Some(What::Print { machines, all, reason, html, output }) => {
            let printed = block_on(print(&layout, machines, *all, reason, *html))?;
            write_out(&printed, output.as_ref())?;
        }
        Some(What::Read { machine, person, reason }) => {
            let by = Asker { name: person.clone(), reason: reason.clone() };
            tell(&block_on(read(&layout, machine, by))?)?;
        }
        Some(What::List) => tell(&block_on(list(&layout))?)?,
        Some(What::Renew { machine, reason }) => {
            let (machine, reason) = (machine.clone(), reason.clone());
            let control = Control::at(&layout);
            match block_on(control.ask(Request::RenewCodes { machine, reason }))? {
                Answer::Done => tell(
                    "other codes were made; what is printed is void once the machine has them. Print the \
                     new sheet.\n",
                )?,
                other => return unexpected(&other),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn signer(layout: &Layout) -> Result<Client> {
    let socket = layout.signer_socket();
    Client::connect(&socket).await.with_context(|| {
        format!(
            "no signer answers at {}: is Cordon running on this machine, and are you root? If it can't be \
             had back, use the printed sheets",
            socket.display()
        )
    })
}

/// Every machine that the signer knows, as it calls it.
pub(crate) async fn rows(client: &Client) -> Result<Vec<CodesRow>> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map(|row: &CodesRow| row.machine);
        let rows = client.codes_rows(after).await?;
        let is_last = rows.len() < ROWS;
        all.extend(rows);
        if is_last {
            return Ok(all);
        }
    }
}

/// The machine of this id, or of this name if it is the only one.
fn named(rows: &[CodesRow], name: &str) -> Result<MachineId> {
    if let Ok(id) = name.parse::<MachineId>()
        && rows.iter().any(|row| row.machine == id)
    {
        return Ok(id);
    }
    let mut called = rows.iter().filter(|row| row.name == name);
    match (called.next(), called.next()) {
        (Some(row), None) => Ok(row.machine),
        (None, _) => bail!("no machine is called {name:?}: `cordon break-glass list` has all"),
        (Some(_), Some(_)) => bail!("several machines are called {name:?}: give the id of one"),
    }
}

/// Which revision the machine itself holds, as the hub last heard; `None`: nobody can say now.
async fn held(layout: &Layout, machine: MachineId) -> Option<u64> {
    let request = Request::Codes { machine: machine.to_string() };
    match Control::at(layout).ask(request).await {
        Ok(Answer::Codes { held, .. }) => held,
        Ok(_) | Err(_) => None,
    }
}

async fn print(
    layout: &Layout,
    names: &[String],
    all: bool,
    reason: &str,
    as_page: bool,
) -> Result<String> {
    let client = signer(layout).await?;
    let known = rows(&client).await?;
    let machines: Vec<MachineId> = if all {
        known.iter().map(|row| row.machine).collect()
    } else {
        names.iter().map(|name| named(&known, name)).collect::<Result<_>>()?
    };
    let by = Asker { name: whoever_asks(), reason: reason.to_owned() };
    let mut sheets = Vec::with_capacity(machines.len());
    for machine in machines {
        // Made now if it has none: a sheet is worth something once the machine has the hashes too.
        client.codes(machine).await?;
        let ask = CodesAsk::Sheet { machine, by: by.clone() };
        let sheet = client.show_codes(ask).await?;
        let held = held(layout, machine).await;
        sheets.push((sheet, held));
    }
    if as_page { sheet::page(&sheets) } else { sheet::text(&sheets) }
}

async fn read(layout: &Layout, machine: &str, by: Asker) -> Result<String> {
    let client = signer(layout).await?;
    let machine = named(&rows(&client).await?, machine)?;
    let sheet: Sheet = client.show_codes(CodesAsk::ReadOne { machine, by }).await?;
    sheet::to_read_out(&sheet, held(layout, machine).await)
}

async fn list(layout: &Layout) -> Result<String> {
    let client = signer(layout).await?;
    let rows = rows(&client).await?;
    let mut text = String::new();
    writeln!(
        text,
        "{:<24} {:<9} {:<9} {:<12} {:<12} on the machine",
        "machine", "not used", "read out", "printed", "good until"
    )?;
    for row in &rows {
        let of = |wanted| row.fates.iter().filter(|fate| **fate == wanted).count();
        let (good, read) = (of(CodeFate::Good), of(CodeFate::Read));
        let on_it = match held(layout, row.machine).await {
            Some(held) if held == row.revision && held > 0 => "yes",
            Some(_) => "NO: a code does not open it yet",
            None => "not known now",
        };
        writeln!(
            text,
            "{:<24} {:<9} {:<9} {:<12} {:<12} {on_it}",
            plain(&row.name),
            format!("{} of {}", good + read, row.fates.len()),
            read,
            row.printed_at.map_or_else(|| "NEVER".to_owned(), date),
            if row.revision == 0 { "-".to_owned() } else { date(row.expires_at) },
        )?;
    }
    writeln!(text, "{} machines", rows.len())?;
    Ok(text)
}

/// Who sits here: the person behind `sudo`, if the system says so. It is written down, and proves nothing:
/// whoever is root here may call himself anything.
fn whoever_asks() -> String {
    std::env::var("SUDO_USER")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| Account::own().name)
}

fn write_out(text: &str, output: Option<&PathBuf>) -> Result<()> {
    let Some(path) = output else { return tell(text) };
    let writing = || format!("writing {}: it must be a new file", path.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(path).with_context(writing)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(writing)?;
    println!("{}: print it, then destroy it (shred -u FILE)", path.display());
    Ok(())
}
