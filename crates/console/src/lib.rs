//! The console: server-rendered pages for the person at 3 a.m.; it proposes, and never signs.
//!
//! [`serve`] runs it in the hub's process over the in-process [`Hub`] handle:
//!
//! ```no_run
//! # async fn example(hub: cordon_hub::Hub) -> Result<(), cordon_console::ConsoleError> {
//! let config = cordon_console::ConsoleConfig::loopback(8440);
//! cordon_console::serve(hub, config, std::future::pending()).await
//! # }
//! ```
//!
//! Where to read what:
//!
//! | part | module |
//! |---|---|
//! | every request passes it first: host, origin, time; every answer's headers | `guard` |
//! | who is asking; forms with their session's token | `session`, `sign_in`, `attempts` |
//! | which address shows or does what | `routes`, `acts` |
//! | the pages, pure functions of what the hub shows | `pages`, `page`, `words`, `text` |
//! | news by server-sent events | `live`, `assets/console.js` |
//! | the style: nhsuk-frontend if npm was there, our own over it | `assets`, `assets/console.css` |
//!
//! Everything works without JavaScript; the script only fetches the page again when there is news, and
//! says honestly whether it does. Nothing is asked of any other host. What an event says is shown as it
//! is, and can neither act nor deceive (`text`).
//!
//! It holds no key. What a person may do is checked by the handle, not here (law 1).

#![forbid(unsafe_code)]

mod acts;
mod assets;
mod attempts;
mod guard;
mod listener;
mod live;
mod measuring;
mod page;
mod pages;
mod problem;
mod returns;
mod routes;
mod rules;
mod session;
mod sign_in;
mod text;
mod words;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cordon_hub::Hub;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Where the console is, and by which names.
#[derive(Debug, Clone)]
pub struct ConsoleConfig {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether it may listen beyond loopback. It speaks no TLS itself: then something before it must.
    pub may_leave_loopback: bool,
    /// Other names that browsers may call it by, with the port if it is not the scheme's own:
    /// `cordon.example.nhs.uk`. Its address and, on loopback, `localhost` are known.
    pub hosts: Vec<String>,
    /// Whether browsers reach it by TLS (a proxy before it): cookies are then for TLS only.
    pub is_behind_tls: bool,
}

impl ConsoleConfig {
    /// On loopback only.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            may_leave_loopback: false,
            hosts: Vec::new(),
            is_behind_tls: false,
        }
    }
}

/// Why the console does not run.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It would be open to a network, and nobody said that it may.
    #[error("the console does not listen at {0}, beyond loopback, unless it is told that it may")]
    BeyondLoopback(SocketAddr),
    /// The address can't be had.
    #[error("the console can't listen at {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What all requests share.
struct Desk {
    hub: Hub,
    hosts: HashSet<String>,
    is_behind_tls: bool,
    attempts: attempts::Attempts,
    streams: live::Streams,
    stop: watch::Receiver<bool>,
}

/// A console that listens and does not answer yet.
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
    desk: Desk,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Console {
    /// Takes its address.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub async fn bind(hub: Hub, config: ConsoleConfig) -> Result<Self, ConsoleError> {
        let listener = Self::take_address(&config).await?;
        Self::on(listener, hub, config)
    }

    /// Only takes the address, for [`Console::on`]: before the hub begins, so that nobody else can sit
    /// there when the hub prints a sign-in link.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub async fn take_address(config: &ConsoleConfig) -> Result<TcpListener, ConsoleError> {
        let address = config.address;
        if !address.ip().to_canonical().is_loopback() && !config.may_leave_loopback {
            return Err(ConsoleError::BeyondLoopback(address));
        }
        TcpListener::bind(address).await.map_err(|source| ConsoleError::Listen { address, source })
    }

    /// The console of `hub` on an address that was taken before.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub fn on(
        listener: TcpListener,
        hub: Hub,
        config: ConsoleConfig,
    ) -> Result<Self, ConsoleError> {
        let address = config.address;
        let failed = |source| ConsoleError::Listen { address, source };
        let address = listener.local_addr().map_err(failed)?;
        let mut hosts: HashSet<String> =
            config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.insert(address.to_string());
        if address.ip().to_canonical().is_loopback() {
            hosts.insert(format!("localhost:{}", address.port()));
        }
        let (stop, stopped) = watch::channel(false);
        let desk = Desk {
            hub,
            hosts,
            is_behind_tls: config.is_behind_tls,
            attempts: attempts::Attempts::default(),
            streams: live::Streams::default(),
            stop: stopped,
        };
        Ok(Self { listener, address, desk, stop })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`; answers under way are finished.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ConsoleError> {
        let Self { listener, address, desk, stop } = self;
        let mut stopped = stop.subscribe();
        let service =
            routes::router(Arc::new(desk)).into_make_service_with_connect_info::<listener::Peer>();
        let serving = axum::serve(listener::Limited::new(listener), service)
            .with_graceful_shutdown(async move {
                drop(stopped.wait_for(|stop| *stop).await);
            })
            .into_future();
        let mut serving = std::pin::pin!(serving);
        let served = tokio::select! {
            served = &mut serving => served,
            () = shutdown => {
                let _ = stop.send(true);
                match tokio::time::timeout(listener::END_WITHIN, serving).await {
                    Ok(served) => served,
                    // A browser that holds its connection open does not keep the hub from ending.
                    Err(_) => Ok(()),
                }
            }
        };
        served.map_err(|source| ConsoleError::Listen { address, source })
    }
}

/// Runs the console until `shutdown`.
///
/// # Errors
/// See [`ConsoleError`].
pub async fn serve(
    hub: Hub,
    config: ConsoleConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ConsoleError> {
    Console::bind(hub, config).await?.serve(shutdown).await
}

/// The link that signs somebody in once, from the text of a sign-in's token.
#[must_use]
pub fn sign_in_link(console: SocketAddr, token: &str) -> String {
    format!("http://{console}/sign-in?token={token}")
}
