//! Asking the helper for a survey, beside the work that must not wait.
//!
//! A look takes a second, and on a busy machine longer, as it is the last in every queue: the helper is asked
//! again and again whether it is done. Whoever waits is told in any case, before the hub gives up.

use std::sync::Arc;
use std::time::Duration;

use cordon_model::change::Changes;
use cordon_model::look::Seen;
use cordon_model::survey::Survey;
use cordon_model::time::UtcNanos;
use cordon_model::wire::FromAgent;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::contain::disk::decode;
use crate::contain::protocol::{Answer, Ask, Surveyed};
use crate::helper_link::{Helper, HelperGone};

/// Between two questions whether it is done.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long is waited for it: less than the hub waits for the answer.
const PATIENCE: Duration = Duration::from_secs(18);

/// What the helper has looked at by a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// What starts by itself, and came or went since.
    Survey(Option<UtcNanos>),
    /// What was changed there since.
    Changes(UtcNanos),
}

/// Has a survey taken in a task of its own, and says what was seen, or why nothing was. At most as many at
/// once as there are `turns`.
pub fn answer(
    turns: &Arc<Semaphore>,
    helper: Option<Helper>,
    say: &mpsc::Sender<FromAgent>,
    number: u64,
    of: Of,
) {
    let turn = Arc::clone(turns).try_acquire_owned();
    let say = say.clone();
    tokio::spawn(async move {
        let seen = match (turn, helper) {
            (Ok(_turn), Some(helper)) => {
                let survey = timeout(PATIENCE, survey(&helper, of)).await;
                survey.unwrap_or_else(|_| {
                    unable(format!(
                        "the look is not done after {} s: the machine is busy; ask again later",
                        PATIENCE.as_secs()
                    ))
                })
            }
            (Err(_), _) => unable("too many look at once; try again".into()),
            (_, None) => unable("this machine runs without root: not looked at".into()),
        };
        let _ = say.send(FromAgent::Looked { number, seen }).await;
    });
}

async fn survey(helper: &Helper, of: Of) -> Seen {
    let mut ask = match of {
        Of::Survey(since) => Ask::Survey { since },
        Of::Changes(since) => Ask::Changes { since },
    };
    loop {
        match helper.ask(ask).await {
            Ok(Answer::Survey(Surveyed::Running { number })) => {
                sleep(ASK_AGAIN).await;
                ask = match of {
                    Of::Survey(_) => Ask::Surveyed { number },
                    Of::Changes(_) => Ask::ChangesTold { number },
                };
            }
            Ok(Answer::Survey(Surveyed::Done(bytes))) => return read(of, &bytes),
            Ok(Answer::Refused { why, .. }) => return unable(why),
            Ok(Answer::Obeyed(_) | Answer::Status(_) | Answer::Printers(_) | Answer::Would(_)) => {
                return unable("the helper answered something else".into());
            }
            Err(HelperGone) => return unable(HelperGone.to_string()),
        }
    }
}

fn read(of: Of, bytes: &[u8]) -> Seen {
    let seen = match of {
        Of::Survey(_) => decode::<Survey>(bytes).map(Seen::Survey),
        Of::Changes(_) => decode::<Changes>(bytes).map(Seen::Changes),
    };
    match seen.filter(Seen::is_bounded) {
        Some(seen) => seen,
        None => unable("what the helper's look told can't be understood".into()),
    }
}

fn unable(mut why: String) -> Seen {
    let mut end = why.len().min(cordon_model::limits::NAME_BYTES);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    Seen::Unable(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contain::protocol::{FromHelper, MESSAGE_BYTES, Receipts, Request};
    use cordon_link::frame;

    /// Serves one connection: each question of a survey is answered by the next of `answers`.
    async fn helper(
        socket: &std::path::Path,
        answers: Vec<Answer>,
    ) -> tokio::task::JoinHandle<Vec<Ask>> {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut answers, mut asked) = (answers.into_iter(), Vec::new());
            while let Ok(Some(request)) =
                frame::read::<Request, _>(&mut stream, MESSAGE_BYTES).await
            {
                let answer = match request.ask {
                    Ask::Listen => Answer::Obeyed(Receipts::default()),
                    ask => {
                        asked.push(ask);
                        answers.next().unwrap()
                    }
                };
                let answer = FromHelper::Answer { to: request.id, answer };
                frame::write(&mut stream, &answer, MESSAGE_BYTES).await.unwrap();
                if answers.len() == 0 {
                    break;
                }
            }
            asked
        })
    }

    async fn said(answers: Vec<Answer>) -> (Seen, Vec<Ask>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("helper.sock");
        let asked = helper(&socket, answers).await;
        let (helper, mut told) = Helper::connect(socket);
        tokio::spawn(async move { while told.recv().await.is_some() {} });
        let (say, mut said) = mpsc::channel(1);
        let since = Some(UtcNanos::from_unix_nanos(3));
        answer(&Arc::new(Semaphore::new(1)), Some(helper), &say, 5, Of::Survey(since));
        let Some(FromAgent::Looked { number: 5, seen }) = said.recv().await else { panic!() };
        (seen, asked.await.unwrap())
    }

    #[tokio::test]
    async fn the_helper_is_asked_until_the_look_is_done() {
        let survey = Survey {
            taken_at: UtcNanos::from_unix_nanos(9),
            known_since: UtcNanos::from_unix_nanos(1),
            things: Vec::new(),
            of: 0,
            unread: Vec::new(),
        };
        let mut bytes = Vec::new();
        ciborium::into_writer(&survey, &mut bytes).unwrap();
        let running = || Answer::Survey(Surveyed::Running { number: 8 });
        let done = Answer::Survey(Surveyed::Done(bytes));
        let (seen, asked) = said(vec![running(), running(), done]).await;
        assert_eq!(seen, Seen::Survey(survey));
        let since = Some(UtcNanos::from_unix_nanos(3));
        let again = || Ask::Surveyed { number: 8 };
        assert_eq!(asked, [Ask::Survey { since }, again(), again()]);
    }

    #[tokio::test]
    async fn what_is_no_survey_is_not_passed_on() {
        let (seen, _) = said(vec![Answer::Survey(Surveyed::Done(b"garbage".to_vec()))]).await;
        assert!(matches!(seen, Seen::Unable(_)), "{seen:?}");
    }

    #[tokio::test]
    async fn who_is_too_many_or_has_no_helper_is_told() {
        for turns in [0, 1] {
            let (say, mut said) = mpsc::channel(1);
            answer(&Arc::new(Semaphore::new(turns)), None, &say, 5, Of::Survey(None));
            let told = said.recv().await;
            assert!(matches!(told, Some(FromAgent::Looked { seen: Seen::Unable(_), .. })));
        }
    }
}
