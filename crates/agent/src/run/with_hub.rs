//! What comes from the hub over the link: orders for the helper, and documents that are kept and handed on.

use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::guidance::Guidance;
use cordon_model::look::LookAt;
use cordon_model::order::{Order, Permit};
use cordon_model::policy::Policy;
use cordon_model::signed::Envelope;
use cordon_model::wire::{FromAgent, Report};

use super::{Agent, locked};
use crate::contain::protocol::{Answer, Ask};
use crate::helper_link::HelperGone;
use crate::link::FromLink;
use crate::{look, surveying};

impl Agent {
    pub(super) async fn hear(&mut self, news: FromLink) {
        match news {
            FromLink::Up(utc) => {
                tracing::info!("linked to the hub");
                self.trusted = Some((utc, self.clocks.now().at));
                self.core.link(true);
                self.look_at_way();
            }
            FromLink::Down(why) => {
                tracing::warn!(why, "no hub in reach");
                self.core.link(false);
                let act = self.core.tick(&self.now());
                self.act(act).await;
            }
            FromLink::Acknowledged(number) => self.core.acknowledged(number),
            FromLink::Order(envelope) => self.obey(envelope).await,
            FromLink::Policy(envelope) => {
                if let Some(policy) = self.genuine::<Policy>(&envelope)
                    && self.core.policy(policy.clone())
                {
                    locked(&self.view).policy = policy.revision;
                    self.keep(&policy);
                }
            }
            FromLink::Permit(envelope) => {
                let now = self.now();
                if let Some(permit) = self.genuine::<Permit>(&envelope)
                    && self.core.permit(permit.clone(), &now)
                {
                    self.keep(&permit);
                    // The helper's clock: it takes note of when this was signed.
                    if let Ok(Answer::Refused { why, .. }) = self.ask(Ask::Permit(envelope)).await {
                        tracing::debug!(why, "the helper took no note of a permit");
                    }
                }
            }
            FromLink::Look(number, LookAt::Survey { since }) => {
                let helper = self.helper.clone();
                let of = surveying::Of::Survey(since);
                surveying::answer(&self.surveys, helper, &self.say, number, of);
            }
            FromLink::Look(number, LookAt::Changes { since }) => {
                let (helper, of) = (self.helper.clone(), surveying::Of::Changes(since));
                surveying::answer(&self.surveys, helper, &self.say, number, of);
            }
            FromLink::Look(number, at) => {
                let now = self.clocks.now();
                let of = look::Of {
                    assignment: self.documents.read::<Assignment>(self.identity.command_key()),
                    helper: self.helper.clone(),
                    used: locked(&self.lately).used(now.at),
                    boot: now.boot,
                };
                look::answer(&self.looks, &self.say, of, number, at);
            }
            FromLink::Assignment(envelope) => {
                let Some(assignment) = self.genuine::<Assignment>(&envelope) else { return };
                if !self.is_for_us(&assignment.organisation, assignment.machine)
                    || !self.keeps_our_hub(&assignment)
                {
                    return;
                }
                if self.core.assign(assignment.clone()) {
                    locked(&self.view).given = Some((*assignment).clone());
                    self.keep(&assignment);
                    self.look_at_way();
                }
                self.assign(envelope, assignment.revision).await;
            }
            FromLink::BreakGlass(envelope) => {
                let Some(codes) = self.genuine::<BreakGlass>(&envelope) else { return };
                if !self.is_for_us(&codes.organisation, codes.machine) {
                    return;
                }
                self.keep(&codes);
                self.take_codes(envelope).await;
            }
            FromLink::Guidance(envelope) => {
                let Some(guidance) = self.genuine::<Guidance>(&envelope) else { return };
                if !self.is_for_us(&guidance.organisation, guidance.machine) {
                    return;
                }
                self.keep(&guidance);
                self.take_guidance(envelope).await;
            }
        }
    }

    async fn obey(&mut self, envelope: Envelope) {
        let Some(order) = self.genuine::<Order>(&envelope) else { return };
        let answer = self.tell(Ask::Order(envelope)).await;
        let is_here = answer.is_ok();
        match answer {
            Ok(Answer::Obeyed(receipts)) => {
                {
                    let mut view = locked(&self.view);
                    view.last_order = view.last_order.max(order.sequence);
                }
                let _ = self.say.try_send(FromAgent::OrderTaken(order.id));
                self.take(receipts).await;
            }
            // Not taken either: the hub sends it again, until it is too late for it. Said once.
            Ok(Answer::Refused { kind, why }) if !kind.is_final() => {
                tracing::error!(order = %order.id, why, "an order can't be taken yet");
                if self.not_yet.replace(order.id) != Some(order.id) {
                    let what =
                        format!("order {} can't be taken yet, and is tried again: {why}", order.id);
                    self.report_gap(0, what);
                }
            }
            Ok(Answer::Refused { kind, why }) => {
                tracing::warn!(order = %order.id, ?kind, why, "an order is refused");
                self.report(Report::OrderRefused { order: order.id, why });
            }
            Ok(Answer::Status(_) | Answer::Survey(_) | Answer::Printers(_) | Answer::Would(_)) => {}
            Err(HelperGone) if self.helper.is_none() => {
                let why = "nothing can be contained on this machine: it runs without root".into();
                self.report(Report::OrderRefused { order: order.id, why });
            }
            // Not taken: the hub sends it again.
            Err(HelperGone) => tracing::error!(order = %order.id, "{HelperGone}"),
        }
        self.look_if(is_here).await;
    }
}
