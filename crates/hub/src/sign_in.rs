//! People: who may sign in, and who has.

use std::sync::PoisonError;
use std::time::Duration;

use cordon_model::record::{Actor, Deed};
use cordon_model::time::UtcNanos;
use cordon_store::{Change, Key, Person, Role, Session};

use crate::assigning::text;
use crate::error::HubError;
use crate::handle::Hub;
use crate::people::{LONGEST_TOKEN, NewSession, Secret, SignIn, Who};

/// How long a session lasts: 12 hours, the longest usual shift.
const SESSION: Duration = Duration::from_secs(12 * 3600);

/// People.
impl Hub {
    /// Makes a person known, or changes what they may do. Who was barred may sign in again. Whoever may answer
    /// no more has their yes to what still waits taken back.
    ///
    /// # Errors
    /// [`HubError::Invalid`] for a name that can't be.
    pub async fn admit(
        &self,
        name: &str,
        role: Role,
        is_clinical: bool,
        who: &Who,
    ) -> Result<(), HubError> {
        let known = self.person(name).await?;
        let person = Person {
            name: name.to_owned(),
            role,
            is_clinical,
            is_active: true,
            password: known.as_ref().and_then(|known| known.password.clone()),
            created_at: known.map_or_else(UtcNanos::now, |known| known.created_at),
        };
        self.put_person(person, who).await
    }

    /// Lets a person sign in no more; a session that is open ends with its next page, and a yes of theirs to
    /// what still waits does not count.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub async fn bar(&self, name: &str, who: &Who) -> Result<(), HubError> {
        let known = self.person(name).await?.ok_or(HubError::Missing { what: "person" })?;
        self.put_person(Person { is_active: false, ..known }, who).await
    }

    pub(crate) async fn person(&self, name: &str) -> Result<Option<Person>, HubError> {
        let key = Key::new(&self.shared.organisation.code, text("name", name)?);
        Ok(self.shared.store.person(&key).await?)
    }

    async fn put_person(&self, person: Person, who: &Who) -> Result<(), HubError> {
        who.must(Role::Administrator)?;
        let name = text("name", &person.name)?;
        let (role, clinical) = (person.role.as_str(), person.is_clinical);
        let detail = match (person.is_active, clinical) {
            (false, _) => format!("{name} is barred"),
            (true, true) => format!("{name} is {role}, clinical"),
            (true, false) => format!("{name} is {role}"),
        };
        let record = self.shared.record(who.actor(), Deed::SignInAllowed, detail);
        let may_answer = person.is_active && person.role >= Role::Responder;
        self.deed(move |step| {
            if !may_answer {
                step.outputs = step.core.answers_no_more(&name, &step.now);
            }
            step.changes.push(Change::Person(Person { name, ..person }));
            step.record(record);
        })
        .await
    }

    /// Makes a link's secret that signs `name` in once; a person who is not known yet becomes one with
    /// `role`.
    ///
    /// # Errors
    /// [`HubError::Invalid`] for a name that can't be, a new person without a role, or one who is barred or
    /// has another.
    pub async fn create_sign_in(
        &self,
        name: &str,
        role: Option<Role>,
        good_for: Duration,
        who: &Who,
    ) -> Result<SignIn, HubError> {
        who.must(Role::Administrator)?;
        let name = text("name", name)?;
        match (self.person(&name).await?, role) {
            (None, Some(role)) => self.admit(&name, role, false, who).await?,
            (None, None) => {
                let why = format!("{name} is new: say what they may do");
                return Err(HubError::Invalid { what: "role", why });
            }
            // A link for less than the person may do would seem to lower it, and would not.
            (Some(known), role)
                if role.is_some_and(|role| known.role != role) || !known.is_active =>
            {
                let is = if known.is_active { known.role.as_str() } else { "barred" };
                let why =
                    format!("{name} is {is}: change that first (`cordon person`), or ask for it");
                return Err(HubError::Invalid { what: "role", why });
            }
            (Some(_), _) => {}
        }
        let token = Secret::new()?;
        let expires_at = UtcNanos::now().plus(good_for.min(LONGEST_TOKEN));
        let hash = Key::new(&self.shared.organisation.code, token.hash());
        self.shared.store.put_sign_in_token(&hash, &name, expires_at).await?;
        let record = self.shared.record(who.actor(), Deed::SignInAllowed, name.clone());
        self.deed(move |step| step.record(record)).await?;
        Ok(SignIn { token, name, expires_at })
    }

    /// Signs in with a link's secret: it is used up. `None`: it is not, or no longer, good.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn sign_in(&self, token: &str) -> Result<Option<NewSession>, HubError> {
        let (store, organisation) = (&self.shared.store, &self.shared.organisation.code);
        let now = UtcNanos::now();
        let person = match Secret::hash_of(token) {
            Some(hash) => store.use_sign_in_token(&Key::new(organisation, hash), now).await?,
            None => None,
        };
        let Some(person) = person else {
            let is_recorded = {
                let bucket = &self.shared.refused_sign_ins;
                let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
                bucket.try_take(std::time::Instant::now())
            };
            if is_recorded {
                let detail = "a sign-in link that is not, or no longer, good";
                let record = self.shared.record(Actor::Hub, Deed::SignInRefused, detail);
                self.deed(move |step| step.record(record)).await?;
            }
            return Ok(None);
        };
        let secret = Secret::new()?;
        let expires_at = now.plus(SESSION);
        let key = Key::new(organisation, secret.hash());
        store.begin_session(&key, &person.name, now, expires_at).await?;
        let actor = Actor::Person(person.name.clone());
        let record = self.shared.record(actor, Deed::SignedIn, "by a one-time link");
        self.deed(move |step| step.record(record)).await?;
        Ok(Some(NewSession { secret, session: Session { person, begun_at: now, expires_at } }))
    }

    /// The session that a cookie's secret is of, if it is good.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn session(&self, secret: &str) -> Result<Option<Session>, HubError> {
        let Some(hash) = Secret::hash_of(secret) else { return Ok(None) };
        let key = Key::new(&self.shared.organisation.code, hash);
        Ok(self.shared.store.session(&key, UtcNanos::now()).await?)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn sign_out(&self, secret: &str) -> Result<(), HubError> {
        let Some(hash) = Secret::hash_of(secret) else { return Ok(()) };
        let key = Key::new(&self.shared.organisation.code, hash);
        Ok(self.shared.store.end_session(&key).await?)
    }
}
