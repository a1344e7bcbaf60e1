//! The stream of news (server-sent events): that something changed, never what.
//!
//! The one idea: a page that hears of a change fetches itself again, so there is one way to make a page,
//! and the stream carries nothing that would need a permission of its own.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use cordon_hub::view::News;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::Desk;
use crate::problem::Problem;
use crate::session::SignedIn;

/// Streams of one session: a browser opens at most six connections to a host, and needs some for pages. The
/// page that was opened last is the one that is looked at: it takes the place of the oldest.
const STREAMS_PER_SESSION: usize = 4;

/// Streams in all: 256 of a few KB each, fifty people with five windows.
const STREAMS: usize = 256;

/// How often a stream says that it is alive; the page calls itself not live after two and a half times
/// nothing.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// How long news are gathered before they are told: four times a second is as often as people see.
const GATHER: Duration = Duration::from_millis(250);

/// Who listens, by session, the oldest first.
#[derive(Debug, Default)]
pub struct Streams(Mutex<HashMap<String, VecDeque<Arc<Notify>>>>);

/// A place among the streams; free again when dropped.
struct Place {
    desk: Arc<Desk>,
    session: String,
    /// Says that another page of the session has taken it.
    is_taken: Arc<Notify>,
}

impl Place {
    fn take(desk: &Arc<Desk>, session: &str) -> Option<Self> {
        let mut streams = desk.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = streams.values().map(VecDeque::len).sum();
        let is_full = streams.get(session).is_some_and(|own| own.len() >= STREAMS_PER_SESSION);
        if all >= STREAMS && !is_full {
            return None;
        }
        let own = streams.entry(session.to_owned()).or_default();
        if is_full && let Some(oldest) = own.pop_front() {
            oldest.notify_one();
        }
        let is_taken = Arc::new(Notify::new());
        own.push_back(is_taken.clone());
        Some(Self { desk: desk.clone(), session: session.to_owned(), is_taken })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.desk.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = streams.get_mut(&self.session) {
            own.retain(|one| !Arc::ptr_eq(one, &self.is_taken));
            if own.is_empty() {
                streams.remove(&self.session);
            }
        }
    }
}

struct Listening {
    place: Place,
    secret: String,
    news: Receiver<News>,
    alive: Interval,
    is_over: bool,
}

/// The stream.
pub async fn live(State(desk): State<Arc<Desk>>, by: SignedIn) -> Response {
    let Some(place) = Place::take(&desk, &by.csrf()) else {
        return Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many live pages",
            "too many people look at once; pages can still be loaded again",
        )
        .into_response();
    };
    let mut alive = tokio::time::interval_at(Instant::now(), ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let news = desk.hub.subscribe();
    let listening = Listening { place, secret: by.secret, news, alive, is_over: false };
    let events = stream::unfold(listening, |mut listening| async move {
        let event = next(&mut listening).await?;
        Some((Ok::<_, Infallible>(event), listening))
    });
    Sse::new(events).into_response()
}

/// The next event; `None` ends the stream: the console stops, the session is over, or another page of it has
/// taken the place.
async fn next(listening: &mut Listening) -> Option<Event> {
    let Listening { place, secret, news, alive, is_over } = listening;
    if *is_over {
        return None;
    }
    let mut stop = place.desk.stop.clone();
    tokio::select! {
        // The guard that `wait_for` gives must not live into the other branches.
        () = async { drop(stop.wait_for(|stop| *stop).await) } => None,
        () = place.is_taken.notified() => {
            *is_over = true;
            Some(Event::default().event("displaced").data("displaced"))
        }
        _ = alive.tick() => {
            // A session that ended elsewhere hears nothing more.
            let is_good = matches!(place.desk.hub.session(secret).await, Ok(Some(_)));
            is_good.then(|| Event::default().event("alive").data("alive"))
        }
        heard = news.recv() => match heard {
            Ok(_) | Err(RecvError::Lagged(_)) => {
                tokio::time::sleep(GATHER).await;
                while let Ok(_) | Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_)) = news.try_recv() {}
                Some(Event::default().event("news").data("look"))
            }
            Err(RecvError::Closed) => None,
        },
    }
}
