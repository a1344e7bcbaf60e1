//! Somebody who is signed in to the console of a running [`Up`], with as much of a browser as a test needs.

use std::io::Write as _;
use std::process::Stdio;

use crate::Up;

/// Somebody with a session.
#[derive(Debug)]
pub struct Person<'a> {
    up: &'a Up,
    host: String,
    cookie: String,
}

impl<'a> Person<'a> {
    /// Signs `name` in as a responder by a one-time link.
    ///
    /// # Panics
    /// If that fails: then a test can say nothing.
    #[must_use]
    pub fn signs_in(up: &'a Up, name: &str) -> Self {
        Self::signs_in_as(up, name, "responder")
    }

    /// The same, as whatever `role` there is.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn signs_in_as(up: &'a Up, name: &str, role: &str) -> Self {
        let link = up.cordon(&["sign-in", "--name", name, "--role", role]).unwrap();
        let token = link.trim().rsplit(['#', '=']).next().unwrap().to_owned();
        let host = up.link.split('/').nth(2).unwrap().to_owned();
        let mut person = Self { up, host, cookie: String::new() };
        let answer = person.send("POST", "/sign-in", &format!("token={token}"));
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        cookie.unwrap_or_default().split(';').next().unwrap().clone_into(&mut person.cookie);
        assert!(!person.cookie.is_empty(), "{answer}");
        person
    }

    /// What the console answers, with its first line and its headers.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn send(&self, method: &str, path: &str, body: &str) -> String {
        let Self { host, cookie, .. } = self;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: {cookie}\r\n\
             Origin: null\r\nSec-Fetch-Site: same-origin\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let (address, port) = host.split_once(':').unwrap();
        let script = format!("exec 3<>/dev/tcp/{address}/{port} && cat >&3 && cat <&3");
        let mut command = self.up.inside("bash");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    /// The page on which a question is read.
    ///
    /// # Panics
    /// If the console does not answer.
    #[must_use]
    pub fn reads(&self, question: &str) -> String {
        self.send("GET", &format!("/questions/{question}"), "")
    }

    /// Reads a question and says yes to it; what the console answers.
    ///
    /// # Panics
    /// If its page has no form to answer by.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn agrees(&self, question: &str) -> String {
        let csrf = field(&self.reads(question), "csrf").unwrap();
        let body = format!("csrf={csrf}&answer=approve&reason=it+is+needed");
        self.send("POST", &format!("/questions/{question}"), &body)
    }

    /// Sets another mode on the policy's page; what the console answers.
    ///
    /// # Panics
    /// If the page has no form for it.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn sets_mode(&self, mode: &str) -> String {
        let page = self.send("GET", &format!("/policy/change?mode={mode}"), "");
        let [csrf, revision] = ["csrf", "revision"].map(|name| field(&page, name).unwrap());
        self.send("POST", "/policy", &format!("csrf={csrf}&mode={mode}&revision={revision}"))
    }

    /// Reads the form that says what a machine is, and saves it with `said` and nothing else; the page, and what the
    /// console answers.
    ///
    /// # Panics
    /// If the page has no form.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn describes(&self, machine: &str, said: &[(&str, &str)]) -> [String; 2] {
        const FIELDS: [&str; 9] =
            ["name", "tier", "kind", "group", "lifelines", "protected", "place", "instead", "ring"];
        let path = format!("/machines/{machine}/assignment");
        let page = self.send("GET", &path, "");
        let mut body = format!("csrf={}", field(&page, "csrf").unwrap());
        for name in FIELDS {
            let value =
                said.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value);
            body += &format!("&{name}={value}");
        }
        let answer = self.send("POST", &path, &body);
        [page, answer]
    }
}

/// What a page's form has in a hidden field.
fn field(page: &str, name: &str) -> Result<String, String> {
    let value = page.split_once(&format!("name=\"{name}\" value=\""));
    let (_, value) = value.ok_or_else(|| format!("no form with {name:?}: {page}"))?;
    Ok(value.split('"').next().unwrap_or_default().to_owned())
}
