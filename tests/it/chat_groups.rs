//! Groups, and who may talk to whom.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::chat::Pair;
use crate::support::redis::Redis;
use crate::support::{Person, Socket, TestHub};

/// A group of a practitioner and two seekers who booked with them.
struct Group {
    id: String,
    owner: Person,
    members: [Person; 2],
}

impl Group {
    async fn of(hub: &TestHub) -> Self {
        let owner = hub.register("practitioner").await;
        let members = [hub.seeker().await, hub.seeker().await];
        for member in &members {
            member.post(hub, "/v1/conversations", json!({ "userId": owner.id })).await.data(201);
        }
        let ids: Vec<&str> = members.iter().map(|m| m.id.as_str()).collect();
        let body = json!({ "kind": "group", "title": "Monday yoga", "memberIds": ids });
        let group = owner.post(hub, "/v1/conversations", body).await.data(201);
        assert_eq!((&group["kind"], &group["title"]), (&json!("group"), &json!("Monday yoga")));
        Self { id: group["id"].as_str().unwrap().to_owned(), owner, members }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/conversations/{}{rest}", self.id)
    }

    fn member(&self, person: &Person) -> String {
        self.path(&format!("/members/{}", person.id))
    }

    async fn follow(&self, hub: &TestHub, who: &Person) -> Socket {
        let mut socket = Socket::open(hub, who).await;
        let channel = format!("conversation:{}", self.id);
        socket.ok("subscribe", json!({ "channel": channel })).await;
        socket
    }

    /// Pushes are for those who have a device.
    async fn gets_pushes(hub: &TestHub, person: &Person) {
        let token = person.id.repeat(4);
        let device = json!({ "fcm": { "token": token } });
        person.post(hub, "/v1/notifications/devices", device).await.data(201);
    }

    async fn say(&self, hub: &TestHub, who: &Person, content: &str) -> Value {
        let body = json!({ "clientId": Uuid::new_v4(), "content": content });
        who.post(hub, &self.path("/messages"), body).await.data(201)
    }
}

fn roles(view: &Value) -> Vec<(&str, &str)> {
    view.as_array()
        .unwrap()
        .iter()
        .map(|m| (m["userId"].as_str().unwrap(), m["role"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn who_may_write_to_whom() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other, admin) = (hub.seeker().await, hub.seeker().await, hub.admin().await);
    let open = |from: &Person, to: &Person| {
        let (from, body, hub) = (from.clone(), json!({ "userId": to.id }), &hub);
        async move { from.post(hub, "/v1/conversations", body).await }
    };
    let practitioner = &practice.person;
    open(practitioner, &seeker).await.refused(403, "forbidden");
    open(&seeker, &other).await.refused(403, "forbidden");
    open(&seeker, &admin).await.refused(403, "forbidden");
    // A hold is no acquaintance, a booking is.
    let hold = seeker.post(&hub, "/v1/holds", practice.wish(practice.slot(3))).await.data(201);
    open(practitioner, &seeker).await.refused(403, "forbidden");
    let body = json!({ "holdId": hold["id"] });
    seeker.post(&hub, "/v1/bookings", body).await.data(201);
    open(practitioner, &seeker).await.data(201);
    open(&seeker, practitioner).await.data(200);
    open(&other, practitioner).await.data(201);
    open(practitioner, &other).await.data(200);
    open(&admin, &seeker).await.data(201);
    open(&seeker, &admin).await.data(200);
    // Two who are in the same group know each other.
    let ids = json!([seeker.id, other.id]);
    let body = json!({ "kind": "group", "title": "Both", "memberIds": ids });
    practitioner.post(&hub, "/v1/conversations", body).await.data(201);
    open(&seeker, &other).await.data(201);

    let stranger = hub.seeker().await;
    let group = |members: Value| json!({ "kind": "group", "title": "G", "memberIds": members });
    let refused = practitioner.post(&hub, "/v1/conversations", group(json!([stranger.id]))).await;
    refused.names("memberIds[0]");
    for (body, field) in [
        (group(json!([])), "memberIds"),
        (group(json!([practitioner.id])), "memberIds"),
        (group(json!([Uuid::new_v4()])), "memberIds[0]"),
        (json!({ "kind": "group", "memberIds": [seeker.id] }), "title"),
        (json!({ "kind": "group", "title": " ", "memberIds": [seeker.id] }), "title"),
        (json!({ "kind": "group", "title": "t" }), "memberIds"),
        (json!({ "kind": "crowd", "userId": seeker.id }), "kind"),
        (json!({ "userId": seeker.id, "title": "t" }), "title"),
        (json!({}), "userId"),
    ] {
        practitioner.post(&hub, "/v1/conversations", body).await.names(field);
    }
}

#[tokio::test]
async fn members_come_and_go() {
    let hub = TestHub::start().await;
    let group = Group::of(&hub).await;
    let [first, _] = &group.members;
    let mut watcher = group.follow(&hub, first).await;
    group.say(&hub, &group.owner, "Welcome").await;
    watcher.event("message:new").await;
    let new = hub.seeker().await;
    let pair = json!({ "userId": group.owner.id });
    new.post(&hub, "/v1/conversations", pair).await.data(201);
    let add = json!({ "userIds": [new.id, first.id] });
    first.post(&hub, &group.path("/members"), add.clone()).await.refused(422, "validation_failed");
    let stranger = hub.seeker().await;
    let unknown = json!({ "userIds": [stranger.id] });
    group.owner.post(&hub, &group.path("/members"), unknown).await.names("userIds[0]");
    new.get(&hub, &group.path("")).await.refused(404, "not_found");
    let mut inbox = Socket::open(&hub, &new).await;
    group.owner.post(&hub, &group.path("/members"), add.clone()).await.data(200);
    let channel = format!("conversation:{}", group.id);
    // Their own inbox hears of it by the same name.
    let event = loop {
        let event = watcher.event("conversation:updated").await;
        if event["channel"] == channel {
            break event;
        }
    };
    assert_eq!(event["seq"], 2);
    assert_eq!(event["data"]["change"], "joined");
    assert_eq!(event["data"]["userIds"], json!([new.id]));
    // They read what was said, and none of it is unread to them.
    let told = loop {
        let told = inbox.event("conversation:updated").await;
        if told["data"]["conversationId"] == group.id {
            break told;
        }
    };
    assert_eq!((&told["data"]["unread"], &told["data"]["readSeq"]), (&json!(0), &json!(2)));
    let history = new.get(&hub, &group.path("/messages")).await.data(200);
    assert_eq!(history[0]["content"], "Welcome");
    // Again, they are in.
    group.owner.post(&hub, &group.path("/members"), add).await.data(200);
    assert_eq!(group.say(&hub, &new, "Thank you").await["seq"], 3);
}

#[tokio::test]
async fn roles_say_who_may_do_what() {
    let hub = TestHub::start().await;
    let group = Group::of(&hub).await;
    let [first, second] = &group.members;
    let (new, stranger) = (hub.seeker().await, hub.seeker().await);
    let pair = json!({ "userId": group.owner.id });
    new.post(&hub, "/v1/conversations", pair).await.data(201);
    let add = json!({ "userIds": [new.id] });
    group.owner.post(&hub, &group.path("/members"), add).await.data(200);
    // The owner gives roles, admins take out members, not each other.
    let role = |word: &str| json!({ "role": word });
    first.put(&hub, &group.member(second), role("admin")).await.refused(403, "forbidden");
    for person in [first, second] {
        group.owner.put(&hub, &group.member(person), role("admin")).await.data(200);
    }
    first.delete(&hub, &group.member(second)).await.refused(403, "forbidden");
    first.delete(&hub, &group.member(&group.owner)).await.refused(403, "forbidden");
    group.owner.put(&hub, &group.member(first), role("king")).await.names("role");
    group.owner.put(&hub, &group.member(&stranger), role("admin")).await.refused(404, "not_found");
    let title = json!({ "title": "Tuesday yoga" });
    new.put(&hub, &group.path(""), title.clone()).await.refused(403, "forbidden");
    assert_eq!(first.put(&hub, &group.path(""), title).await.data(200)["title"], "Tuesday yoga");
    // An admin takes away what another wrote.
    let rude = group.say(&hub, &new, "rude").await;
    let path = group.path(&format!("/messages/{}", rude["id"].as_str().unwrap()));
    assert!(first.delete(&hub, &path).await.data(200)["deletedAt"].is_string());
    first.delete(&hub, &group.member(&new)).await.data(200);
    first.delete(&hub, &group.member(&new)).await.data(200);
    new.get(&hub, &group.path("/messages")).await.refused(404, "not_found");

    // Who goes is followed by an admin, who came first.
    group.owner.delete(&hub, &group.member(&group.owner)).await.data(200);
    let members = second.get(&hub, &group.path("/members")).await.data(200);
    let mut left = roles(&members);
    left.sort_unstable();
    let heirs = left.iter().filter(|(_, role)| *role == "owner").count();
    assert_eq!((left.len(), heirs), (2, 1), "{left:?}");
    let dense = "SELECT count(*) FROM conversations c WHERE c.last_seq <>
        (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id)
        + (SELECT count(*) FROM conversation_events e WHERE e.conversation_id = c.id)";
    assert_eq!(hub.number(dense).await, 0);
}

#[tokio::test]
async fn a_pair_takes_nobody_in_and_lets_nobody_go() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let third = hub.register("practitioner").await;
    pair.a.post(&hub, "/v1/conversations", json!({ "userId": third.id })).await.data(201);
    let path = format!("/v1/conversations/{}", pair.id);
    let add = json!({ "userIds": [third.id] });
    pair.a.post(&hub, &format!("{path}/members"), add).await.refused(403, "forbidden");
    pair.a.put(&hub, &path, json!({ "title": "Us" })).await.refused(403, "forbidden");
    let me = format!("{path}/members/{}", pair.a.id);
    pair.a.delete(&hub, &me).await.refused(403, "forbidden");
    pair.a.put(&hub, &me, json!({ "role": "owner" })).await.refused(403, "forbidden");
}

/// Takes `out` of the group on `hub` while their socket is on `at`, and looks that it is silent.
async fn is_silent_after_removal(hub: &TestHub, at: &TestHub) {
    let group = Group::of(hub).await;
    let [stays, out] = &group.members;
    Group::gets_pushes(hub, out).await;
    let mut socket = group.follow(at, out).await;
    let mut witness = group.follow(at, stays).await;
    group.say(hub, &group.owner, "before").await;
    socket.event("message:new").await;
    witness.event("message:new").await;
    // Both nodes know them as a member.
    socket.ok("typing:start", json!({ "conversationId": group.id })).await;
    group.owner.delete(hub, &group.member(out)).await.data(200);
    let told = socket.event("conversation:updated").await;
    if told["data"].get("left").is_none() {
        // The group's own event came first; or an inbox's news from before.
        while socket.event("conversation:updated").await["data"].get("left").is_none() {}
    }
    socket.event("subscription:ended").await;
    // Whatever they try, they are not there any more.
    let conversation = json!({ "conversationId": group.id });
    let channel = json!({ "channel": format!("conversation:{}", group.id) });
    let message = json!({ "conversationId": group.id, "clientId": Uuid::new_v4(), "content": "x" });
    socket.refused("message:send", message, "not_found").await;
    socket.refused("message:history", conversation, "not_found").await;
    socket.refused("subscribe", channel, "not_found").await;
    let ack = json!({ "conversationId": group.id, "seq": 1 });
    socket.refused("message:read", ack, "not_found").await;
    group.say(hub, &group.owner, "after").await;
    while witness.event("message:new").await["data"]["message"]["content"] != "after" {}
    socket.ok("ping", json!({})).await;
    let after = socket.event_within("message:new", Duration::from_millis(300)).await;
    assert!(after.is_none(), "{after:?}");
    let pushes = format!(
        "SELECT count(*) FROM outbox WHERE user_id = '{}' AND state = 'waiting'
            AND topic = 'conversation:{}'",
        out.id, group.id
    );
    assert_eq!(hub.number(&pushes).await, 0);
}

#[tokio::test]
async fn a_removed_member_hears_nothing_more() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
    is_silent_after_removal(&hub, &hub).await;
}

#[tokio::test]
async fn a_removed_member_hears_nothing_more_on_another_node() {
    let Some(redis) = Redis::start().await else { return };
    let with = |url: String| {
        move |c: &mut hub::config::Config| {
            c.redis_url = Some(url.into());
            c.push.window = Duration::from_secs(300);
        }
    };
    let hub = TestHub::start_with(with(redis.url())).await;
    let other = TestHub::start_over(hub.database_url.clone(), with(redis.url())).await;
    redis.is_followed_by(2).await;
    is_silent_after_removal(&hub, &other).await;
}

/// Without a bus the other node asks the database.
#[tokio::test]
async fn a_removed_member_is_cut_off_where_no_bus_tells_of_it() {
    let hub = TestHub::start().await;
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let group = Group::of(&hub).await;
    let [stays, out] = &group.members;
    let (mut socket, mut witness) =
        (group.follow(&other, out).await, group.follow(&other, stays).await);
    group.owner.delete(&hub, &group.member(out)).await.data(200);
    let ended = socket.event("subscription:ended").await;
    assert_eq!(ended["channel"], format!("conversation:{}", group.id));
    assert_eq!(ended["data"]["reason"], "not_a_member");
    group.say(&other, &group.owner, "after").await;
    while witness.event("message:new").await["data"]["message"]["content"] != "after" {}
    socket.ok("ping", json!({})).await;
    let after = socket.event_within("message:new", Duration::from_millis(300)).await;
    assert!(after.is_none(), "{after:?}");
    // Who comes back follows again, and is not cut off for having left.
    let add = json!({ "userIds": [out.id] });
    group.owner.post(&hub, &group.path("/members"), add).await.data(200);
    let channel = format!("conversation:{}", group.id);
    socket.ok("subscribe", json!({ "channel": channel })).await;
    let ended = socket.event_within("subscription:ended", Duration::from_millis(2_500)).await;
    assert!(ended.is_none(), "{ended:?}");
}

#[tokio::test]
async fn a_node_that_was_told_nothing_finds_out() {
    let hub = TestHub::start().await;
    // No bus between them.
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let group = Group::of(&hub).await;
    let [first, second] = &group.members;
    group.say(&other, first, "one").await;
    group.owner.delete(&hub, &group.member(first)).await.data(200);
    let body = json!({ "clientId": Uuid::new_v4(), "content": "two" });
    first.post(&other, &group.path("/messages"), body).await.refused(404, "not_found");
    let new = hub.seeker().await;
    let pair = json!({ "userId": group.owner.id });
    new.post(&hub, "/v1/conversations", pair).await.data(201);
    let add = json!({ "userIds": [new.id] });
    group.owner.post(&hub, &group.path("/members"), add).await.data(200);
    for person in [&group.owner, first, second, &new] {
        Group::gets_pushes(&hub, person).await;
    }
    assert_eq!(group.say(&other, &new, "three").await["seq"], 4);
    // Who is in now is who gets pushes, and nobody else.
    let to = format!(
        "SELECT count(*) FROM outbox WHERE topic_seq = 4 AND user_id IN ('{}', '{}')",
        group.owner.id, second.id
    );
    let all = "SELECT count(*) FROM outbox WHERE topic_seq = 4";
    assert_eq!((hub.number(&to).await, hub.number(all).await), (2, 2));
}

#[tokio::test]
async fn a_group_has_at_most_a_hundred_members() {
    let hub = TestHub::start().await;
    let group = Group::of(&hub).await;
    let fill = format!(
        "WITH u AS (INSERT INTO users (id, email, first_name, last_name, user_type)
                    SELECT gen_random_uuid(), 'm' || n || '@example.in', 'M', 'N', 'seeker'
                      FROM generate_series(1, 97) n RETURNING id)
         INSERT INTO conversation_members (conversation_id, user_id) SELECT '{}', id FROM u",
        group.id
    );
    hub.execute(&fill).await;
    let new = hub.seeker().await;
    let pair = json!({ "userId": group.owner.id });
    new.post(&hub, "/v1/conversations", pair).await.data(201);
    let add = json!({ "userIds": [new.id] });
    group.owner.post(&hub, &group.path("/members"), add).await.names("userIds");
    group.members[0].delete(&hub, &group.member(&group.members[0])).await.data(200);
    let add = json!({ "userIds": [new.id] });
    group.owner.post(&hub, &group.path("/members"), add).await.data(200);
}
