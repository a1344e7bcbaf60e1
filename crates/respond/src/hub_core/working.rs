//! What people do to an incident: they take it, and close it.

use super::*;

impl HubCore {
    /// A person takes an incident.
    pub fn own(&mut self, incident: IncidentId, person: &str, now: &Moment) -> Vec<Output> {
        let story = self.grouping.own(incident, person).cloned();
        story.map_or_else(Vec::new, |story| self.taken(story, person, now))
    }

    /// The same of one that made room for others, as it was kept.
    pub fn own_kept(&mut self, kept: Story, person: &str, now: &Moment) -> Vec<Output> {
        let story = self.grouping.own_kept(kept, person);
        story.map_or_else(Vec::new, |story| self.taken(story, person, now))
    }

    fn taken(&self, story: Story, person: &str, now: &Moment) -> Vec<Output> {
        let (actor, incident) = (Actor::Person(person.to_owned()), Some(story.incident.id));
        let deed = Deed::IncidentChanged;
        let record = self.record(actor, deed, None, incident, "taken".into(), now);
        vec![Output::Keep(Change::Story(story)), record]
    }

    /// A person closes an incident. What the policy asked in it is withdrawn at once, with the reason; what was found in
    /// other incidents and left to those questions is asked about in its own.
    pub fn close(
        &mut self,
        incident: IncidentId,
        person: &str,
        reason: &str,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let story = self.grouping.close(incident);
        story.map_or_else(Vec::new, |story| self.closed(story, person, reason, now, randomness))
    }

    /// The same of one that made room for others, as it was kept.
    pub fn close_kept(
        &mut self,
        kept: Story,
        person: &str,
        reason: &str,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let story = self.grouping.close_kept(kept);
        story.map_or_else(Vec::new, |story| self.closed(story, person, reason, now, randomness))
    }

    fn closed(
        &mut self,
        story: Story,
        person: &str,
        reason: &str,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let incident = story.incident.id;
        self.escalated.remove(&incident);
        let actor = Actor::Person(person.to_owned());
        let deed = Deed::IncidentChanged;
        let why = format!("its incident was closed by {person}: {reason}");
        let withdrawn = self.withdraw_of(incident, &why);
        let detail = match withdrawn.len() {
            0 => format!("closed: {reason}"),
            1 => format!("closed: {reason} (withdrawn with it: 1 question)"),
            many => format!("closed: {reason} (withdrawn with it: {many} questions)"),
        };
        let mut outputs = vec![Output::Keep(Change::Story(story))];
        outputs.extend(withdrawn);
        outputs.push(self.record(actor, deed, None, Some(incident), detail, now));
        outputs.extend(self.ask_what_came_beside(now, randomness));
        outputs
    }
}
