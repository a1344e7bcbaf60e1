//! `cordon notice`: what this machine tells the person in front of it.
//!
//! The one idea: the helper, which is root, writes one file that everybody may read, and nothing else. All
//! that goes further (the desktop, a browser) is a small reader that runs as somebody without rights.

mod desktop;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cli::StateArg;
use crate::control::{plain, tell};
use desktop::SessionBus;

/// The longest notice that is read: four times what the helper writes.
const LONGEST: u64 = 16 << 10;

/// How often the file is looked at. A person notices nothing of two seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a browser may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// `cordon notice`
#[derive(Debug, Clone, clap::Args)]
pub struct NoticeArgs {
    #[command(flatten)]
    state: StateArg,
    /// The notice's file; the one that this machine's helper writes if not given.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show it on this user's desktop whenever it changes, for ever: for the session's autostart.
    #[arg(long, conflicts_with = "serve")]
    watch: bool,
    /// Serve it as a page on loopback, for a browser that shows nothing else.
    #[arg(long, value_name = "ADDRESS")]
    serve: Option<SocketAddr>,
    /// Print an autostart entry for `--watch` (XDG: put it into /etc/xdg/autostart/cordon-notice.desktop).
    #[arg(long, conflicts_with_all = ["serve", "watch"])]
    desktop_entry: bool,
}

/// Where the notice is.
pub fn file(args: &NoticeArgs) -> PathBuf {
    args.file.clone().unwrap_or_else(|| args.state.machines_layout().notice())
}

/// Shows it.
pub fn run(args: &NoticeArgs) -> Result<()> {
    let file = file(args);
    if args.desktop_entry {
        return tell(
            "[Desktop Entry]\nType=Application\nName=Cordon notice\nExec=cordon notice --watch\n\
             NoDisplay=true\nX-GNOME-Autostart-enabled=true\n",
        );
    }
    if args.watch {
        return watch(&file);
    }
    if let Some(address) = args.serve {
        return serve(&file, address);
    }
    match read(&file)? {
        Some(text) => tell(&text),
        None => tell("Cordon has nothing to tell the people at this computer.\n"),
    }
}

/// The notice; `None` if there is none.
fn read(file: &Path) -> Result<Option<String>> {
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    let mut text = String::new();
    opened
        .take(LONGEST)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {}", file.display()))?;
    // Whatever stands in it, it drives no terminal.
    let lines: Vec<String> = text.lines().map(plain).collect();
    Ok(Some(lines.join("\n") + "\n"))
}

fn watch(file: &Path) -> Result<()> {
    let address = desktop::address()
        .context("no session bus: this runs in a desktop's session (see --desktop-entry)")?;
    let (mut shown, mut number) = (None, 0);
    loop {
        let text = read(file).unwrap_or_default();
        if text != shown {
            let (summary, body) = match &text {
                Some(text) => text.split_once('\n').unwrap_or((text, "")),
                // Said once, so that an old notice does not stay on the screen.
                None => ("This computer is not cut off", ""),
            };
            // A desktop that shows nothing yet is tried again at the next look.
            let done = SessionBus::connect(&address)
                .and_then(|mut bus| bus.notify(number, summary, body.trim()));
            match done {
                Ok(given) => (shown, number) = (text, given),
                Err(error) => tracing::debug!(%error, "the desktop shows nothing yet"),
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn serve(file: &Path, address: SocketAddr) -> Result<()> {
    ensure!(
        address.ip().to_canonical().is_loopback(),
        "the page is for this computer's own browser: give a loopback address, such as 127.0.0.1:8449"
    );
    // Whoever started this as root did not mean it: a page needs no right.
    if nix::unistd::geteuid().is_root() {
        let nobody = nix::unistd::User::from_name("nobody").ok().flatten();
        let nobody = nobody.context("there is no user `nobody` to serve the page as")?;
        nix::unistd::setgroups(&[])?;
        nix::unistd::setgid(nobody.gid)?;
        nix::unistd::setuid(nobody.uid)?;
    }
    let listener = TcpListener::bind(address).with_context(|| format!("listening at {address}"))?;
    println!("http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        // One after another: it is one browser's, and nobody else's business.
        if let Err(error) = stream.map_err(Into::into).and_then(|stream| answer(file, stream)) {
            tracing::debug!(%error, "a browser was not answered");
        }
    }
    Ok(())
}

fn answer(file: &Path, mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut asked = [0; 2_048];
    let count = stream.read(&mut asked)?;
    let is_page = asked[..count].starts_with(b"GET / ");
    let (status, body) = if is_page {
        ("200 OK", page(read(file).unwrap_or_default().as_deref()))
    } else {
        ("404 Not Found", String::new())
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

fn page(text: Option<&str>) -> String {
    let (title, shown) = match text {
        Some(text) => ("About this computer", text),
        None => (
            "This computer is not cut off",
            "Cordon has nothing to tell the people at this computer.",
        ),
    };
    let shown = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"15\">\
         <title>{title}</title><style>body{{font:1.4rem/1.5 sans-serif;margin:2rem;max-width:46rem;color:#000;background:#fff}}\
         pre{{font:inherit;white-space:pre-wrap}}</style></head><body><main><pre>{shown}</pre></main></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_text_and_runs_nothing() {
        let page = page(Some("CUT OFF <script>alert(1)</script> & more"));
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
        assert!(super::page(None).contains("not cut off"));
    }

    #[test]
    fn a_browser_gets_the_notice_and_anything_else_gets_nothing() {
        let folder = std::env::temp_dir().join(format!("cordon-notice-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("notice");
        std::fs::write(&file, "THIS COMPUTER WAS CUT OFF\n\u{1b}[2J").unwrap();
        let ask = |request: &str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let request = request.to_owned();
            let browser = std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                text
            });
            answer(&file, listener.accept().unwrap().0).unwrap();
            browser.join().unwrap()
        };
        let page = ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("WAS CUT OFF"), "{page}");
        assert!(!page.contains('\u{1b}'));
        assert!(ask("GET /../etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
