//! Who is let in, and what every answer carries.

use cordon_console::{Console, ConsoleConfig, ConsoleError, sign_in_link};
use cordon_model::finding::Level;
use cordon_store::Role;

use super::browser::{Served, read_until};
use super::support::{Site, found};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_signed_in_sees_the_sign_in_page_and_nothing_else() {
    let served = Served::start().await;
    let stranger = served.stranger();
    for path in ["/", "/machines", "/policy", "/ledger", "/incidents/closed"] {
        let page = stranger.get(path).await;
        assert_eq!((page.status, page.header("location")), (303, Some("/sign-in")), "{path}");
        assert!(page.body.is_empty());
    }
    let page = stranger.get("/sign-in").await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("Test Hospital"), "a stranger does not learn whose hub it is");
    assert_eq!(stranger.post("/policy", &[("mode", "act")]).await.status, 401);
    assert_eq!(stranger.live().await.unwrap_err(), "401");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_signs_in_once_and_looking_at_it_uses_nothing_up() {
    let served = Served::start().await;
    let token = served.token("ann", Role::Responder).await;
    let link = sign_in_link(served.address, &token);
    let path = link.strip_prefix(&format!("http://{}", served.address)).unwrap();
    let stranger = served.stranger();
    for _ in 0..3 {
        let page = stranger.get(path).await;
        assert!(page.body.contains(&format!("value=\"{token}\"")));
        assert_eq!(page.header("set-cookie"), None);
    }
    let page = stranger.post("/sign-in", &[("token", &token)]).await;
    assert_eq!(page.status, 303);
    let cookie = page.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let again = stranger.post("/sign-in", &[("token", &token)]).await;
    assert_eq!((again.status, again.header("set-cookie")), (403, None));
    assert!(again.text().contains("used before"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_fails_to_sign_in_too_often_waits() {
    let served = Served::start().await;
    let stranger = served.stranger();
    for _ in 0..10 {
        assert_eq!(stranger.post("/sign-in", &[("token", "guess")]).await.status, 403);
    }
    let page = stranger.post("/sign-in", &[("token", "guess")]).await;
    assert_eq!(page.status, 429);
}

/// Fleet CVE-2026-46356: whoever guesses is told apart by the connection, whatever headers say.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_address_of_the_client_is_not_believed() {
    let served = Served::start().await;
    let stranger = served.stranger();
    let origin = format!("http://{}", served.address);
    let guess = |number: u8| {
        let address = format!("203.0.113.{number}");
        let forwarded = format!("for={address}");
        let headers = [
            ("Origin", origin.clone()),
            ("Content-Type", "application/x-www-form-urlencoded".into()),
            ("X-Forwarded-For", address.clone()),
            ("X-Real-IP", address),
            ("Forwarded", forwarded),
        ];
        let stranger = &stranger;
        async move {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            stranger.send("POST", "/sign-in", &headers, "token=guess").await.status
        }
    };
    for number in 0..10 {
        assert_eq!(guess(number).await, 403, "{number}");
    }
    assert_eq!(guess(10).await, 429, "another header makes nobody else of them");
}

/// Every route that takes a form, as the console's own source has them.
fn posts() -> Vec<String> {
    let routes = include_str!("../../src/routes.rs");
    let pieces = routes.split(".route(").skip(1).filter(|piece| piece.contains("post("));
    let paths = pieces.filter_map(|piece| piece.split('"').nth(1));
    paths.map(|path| path.replace("{id}", "01890000-0000-7000-8000-000000000000")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_form_of_any_page_is_taken_from_another_page_or_without_the_sessions_token() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Administrator).await;
    let own = format!("http://{}", served.address);
    let paths = posts();
    assert!(paths.len() >= 14, "{paths:?}");
    for path in paths {
        for origin in ["http://evil.example", "null"] {
            let page = ann.send("POST", &path, &[("Origin", origin)], "csrf=x").await;
            assert_eq!(page.status, 403, "{path} from {origin}");
            assert!(page.text().contains("sent by another page"), "{path}");
        }
        let page = ann.send("POST", &path, &[("Origin", &own)], "csrf=x").await;
        assert!((400..500).contains(&page.status), "{path}: {}", page.status);
    }
}

/// DFIR-IRIS CVE-2026-22783.
#[test]
fn no_form_takes_a_field_that_it_does_not_have() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut forms = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if !(line.contains("derive(") && line.contains("Deserialize")) {
                continue;
            }
            let rest = &lines[at + 1..];
            let until =
                rest.iter().position(|line| line.contains("struct ") || line.contains("enum "));
            let until = until.expect("a derive is of a type");
            if rest[until].contains("struct ") {
                let is_strict =
                    rest[..until].iter().any(|line| line.contains("deny_unknown_fields"));
                assert!(is_strict, "{}: {}", path.display(), rest[until]);
                forms += 1;
            }
        }
    }
    assert!(forms >= 10, "{forms}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_its_person_signs_out_everywhere_at_once() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Responder).await;
    assert_eq!(ann.get("/").await.status, 200);
    let page = ann.act("/", "/sign-out", &[]).await;
    assert_eq!(page.status, 200);
    assert!(page.header("set-cookie").unwrap().contains("Max-Age=0"));
    // The cookie is kept by somebody who should not have it.
    assert_eq!(ann.get("/").await.header("location"), Some("/sign-in"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_answers_to_its_own_names_only() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Viewer).await;
    let port = served.address.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("LOCALHOST:{port}"), 200),
        ("127.0.0.1".to_owned(), 421),
        (format!("evil.example:{port}"), 421),
        (format!("127.0.0.1.evil.example:{port}"), 421),
    ] {
        let page = ann.send("GET", "/", &[("Host", &host)], "").await;
        assert_eq!(page.status, status, "{host}");
    }
    let absolute = format!("http://evil.example:{port}/");
    assert_eq!(ann.send("GET", &absolute, &[], "").await.status, 421);
    let two = [("Host", "evil.example"), ("Host", "evil.example")];
    assert_ne!(ann.send("GET", "/", &two, "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_keeps_the_browser_to_this_console() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Viewer).await;
    let evil = [("Host", "evil.example")];
    for page in [
        ann.get("/").await,
        ann.get("/nowhere").await,
        ann.get("/machines/nonsense").await,
        ann.send("DELETE", "/", &[], "").await,
        ann.send("GET", "/", &evil, "").await,
        served.stranger().get("/").await,
    ] {
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
        for sign in
            ["style=\"", "onclick", "javascript:", "<script>", "<style", "http://", "https://"]
        {
            assert!(!page.body.contains(sign), "{sign} in {}", page.body);
        }
    }
    let page = ann.get("/").await;
    let mut assets = 0;
    for link in page.body.split('"').filter(|part| part.starts_with("/assets/")) {
        let asset = served.stranger().get(link).await;
        assert_eq!(asset.status, 200, "{link}");
        assert!(asset.header("cache-control").unwrap().contains("immutable"));
        assets += 1;
    }
    assert!(assets >= 3, "{assets}");
    assert_eq!(ann.get("/assets/..%2f..%2fCargo.toml").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_another_page_sends_does_nothing() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Administrator).await;
    let csrf = ann.get("/policy").await.csrf();
    let revision = served.site.hub().policy().revision.to_string();
    let good = format!("csrf={csrf}&mode=act&revision={revision}");
    let host = format!("http://{}", served.address);
    for headers in [
        vec![],
        vec![("Origin", "null")],
        vec![("Origin", "http://evil.example")],
        vec![("Origin", host.as_str()), ("Sec-Fetch-Site", "cross-site")],
        vec![("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-origin")],
        vec![("Sec-Fetch-Site", "none")],
    ] {
        let page = ann.send("POST", "/policy", &headers, &good).await;
        assert_eq!(page.status, 403, "{headers:?}");
    }
    // From the right page, but without the session's token, or with another's.
    let bob = served.person("bob", Role::Administrator).await;
    let others = bob.get("/policy").await.csrf();
    assert_ne!(csrf, others);
    for csrf in ["", "x", others.as_str()] {
        let fields = [("csrf", csrf), ("mode", "act"), ("revision", &revision)];
        assert_eq!(ann.post("/policy", &fields).await.status, 403, "{csrf:?}");
    }
    let no_token = ann.post("/policy", &[("mode", "act"), ("revision", &revision)]).await;
    assert_eq!(no_token.status, 422);
    // A field that the form does not have.
    let more =
        [("csrf", csrf.as_str()), ("mode", "act"), ("revision", &revision), ("budget", "1000")];
    assert_eq!(ann.post("/policy", &more).await.status, 422);
    assert_eq!(served.site.hub().policy().mode, cordon_model::policy::Mode::Ask);

    let page = ann.send("POST", "/policy", &[("Origin", &host)], &good).await;
    assert_eq!(page.status, 303, "{}", page.text());
    assert_eq!(served.site.hub().policy().mode, cordon_model::policy::Mode::Act);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_larger_than_any_honest_one_is_refused() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Administrator).await;
    let csrf = ann.get("/policy").await.csrf();
    let long = "x".repeat(70_000);
    let page = ann.post("/policy", &[("csrf", &csrf), ("mode", &long)]).await;
    assert_eq!(page.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_that_was_opened_last_is_live_and_the_oldest_of_the_session_says_that_it_is_not() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Viewer).await;
    let bob = served.person("bob", Role::Viewer).await;
    let mut bobs = bob.live().await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(ann.live().await.unwrap());
    }
    let mut last = ann.live().await.unwrap();
    read_until(&mut last, "event: alive").await;
    read_until(&mut streams[0], "event: displaced").await;
    // The others go on, and so does another session: each hears of the next news.
    let mut machine = served.site.machine("office-1").await;
    machine.report(found("office-1", Level::High, 1)).await;
    for stream in streams[1..].iter_mut().chain([&mut last, &mut bobs]) {
        read_until(stream, "event: news").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_listen_beyond_loopback_unless_it_is_told_that_it_may() {
    let site = Site::start().await;
    let open =
        ConsoleConfig { address: "0.0.0.0:0".parse().unwrap(), ..ConsoleConfig::loopback(0) };
    let refused = Console::bind(site.hub().clone(), open.clone()).await;
    assert!(matches!(refused, Err(ConsoleError::BeyondLoopback(_))));
    let told = ConsoleConfig { may_leave_loopback: true, ..open };
    assert!(Console::bind(site.hub().clone(), told).await.is_ok());
}
