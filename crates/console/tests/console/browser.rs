//! As much of a browser as these tests need: one request a connection, one cookie, forms.

use std::net::SocketAddr;
use std::time::Duration;

use cordon_console::{Console, ConsoleConfig};
use cordon_store::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::support::{Site, admin};

/// A console that serves a site until the test ends.
pub struct Served {
    pub site: Site,
    pub address: SocketAddr,
    _serving: JoinHandle<()>,
}

impl Served {
    pub async fn start() -> Self {
        Self::over(Site::start().await).await
    }

    pub async fn over(site: Site) -> Self {
        let console = Console::bind(site.hub().clone(), ConsoleConfig::loopback(0)).await.unwrap();
        let address = console.address();
        let serving =
            tokio::spawn(async move { console.serve(std::future::pending()).await.unwrap() });
        Self { site, address, _serving: serving }
    }

    /// Somebody who has not signed in.
    pub fn stranger(&self) -> Browser {
        Browser { address: self.address, cookie: None }
    }

    pub async fn token(&self, name: &str, role: Role) -> String {
        let good_for = Duration::from_secs(60);
        let sign_in = self.site.hub().create_sign_in(name, Some(role), good_for, &admin()).await;
        sign_in.unwrap().token.text()
    }

    /// Somebody who has.
    pub async fn person(&self, name: &str, role: Role) -> Browser {
        let token = self.token(name, role).await;
        let mut browser = self.stranger();
        let page = browser.post("/sign-in", &[("token", &token)]).await;
        assert_eq!((page.status, page.header("location")), (303, Some("/")), "{}", page.body);
        let cookie = page.header("set-cookie").unwrap();
        browser.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        browser
    }
}

pub struct Browser {
    pub address: SocketAddr,
    pub cookie: Option<String>,
}

pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Page {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The token of the page's forms.
    pub fn csrf(&self) -> String {
        let (_, after) = self.body.split_once("name=\"csrf\" value=\"").expect("a form");
        after.split('"').next().unwrap().to_owned()
    }

    /// What is said, without markup.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for part in self.body.split('<') {
            let (tag, said) = part.split_once('>').unwrap_or(("", part));
            // Foreign text and times stand within a line.
            if !["bdi", "/bdi", "time", "/time"].contains(&tag.split(' ').next().unwrap()) {
                text.push(' ');
            }
            text.push_str(said);
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Browser {
    pub async fn get(&self, path: &str) -> Page {
        self.send("GET", path, &[], "").await
    }

    /// Sends a form as one of the console's own pages does.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let own = [("Origin", "null"), ("Sec-Fetch-Site", "same-origin")];
        self.send("POST", path, &own, &form(fields)).await
    }

    /// The same with the session's token, taken from a page.
    pub async fn act(&self, from: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = self.get(from).await.csrf();
        self.post(path, &[&[("csrf", csrf.as_str())], fields].concat()).await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Page {
        let named = headers.iter().any(|(name, _)| *name == "Host");
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !named {
            request += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if let Some(cookie) = &self.cookie {
            request += &format!("Cookie: {cookie}\r\n");
        }
        if method == "POST" {
            let length = body.len();
            request += "Content-Type: application/x-www-form-urlencoded\r\n";
            request += &format!("Content-Length: {length}\r\n");
        }
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Page { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Opens the stream of news; `None` with the status if it is refused.
    pub async fn live(&self) -> Result<TcpStream, String> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let cookie = self.cookie.clone().unwrap_or_default();
        let request =
            format!("GET /live HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        match &head[9..] {
            b"200" => Ok(stream),
            other => Err(String::from_utf8_lossy(other).into_owned()),
        }
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    pairs.join("&")
}

/// Reads a stream until `word` comes.
pub async fn read_until(stream: &mut TcpStream, word: &str) {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let read = async {
        while !text.contains(word) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the stream ended without {word:?}: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("it hangs");
}
