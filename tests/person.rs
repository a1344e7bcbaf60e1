//! Somebody who is signed in to the console of a running [`Up`], with as much of a browser as a test needs.

use std::io::Write as _;
use std::process::Stdio;

use crate::Up;

/// A responder with a session.
#[derive(Debug)]
pub struct Person<'a> {
    up: &'a Up,
    host: String,
    cookie: String,
}

impl<'a> Person<'a> {
    /// Signs `name` in by a one-time link.
    ///
    /// # Panics
    /// If that fails: then a test can say nothing.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a harness stops where it can't go on")]
    pub fn signs_in(up: &'a Up, name: &str) -> Self {
        let link = up.cordon(&["sign-in", "--name", name, "--role", "responder"]).unwrap();
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
        let page = self.reads(question);
        let form = page.split_once("name=\"csrf\" value=\"");
        assert!(form.is_some(), "no form: {page}");
        let csrf = form.unwrap().1.split('"').next().unwrap();
        let body = format!("csrf={csrf}&answer=approve&reason=it+is+needed");
        self.send("POST", &format!("/questions/{question}"), &body)
    }
}
