//! A believable chat app's documents: the same seed gives the same bytes, however many there are, and
//! no more than one of them is held at a time.

use bytes::Bytes;
use serde_json::{Value, json};
use whimbrel_model::{Body, Key};

/// Steele, Lea and Flood's SplitMix64: small, and the same everywhere and always, which the generators of
/// the `rand` crate do not promise.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is above 0. Its bias is below `n` in 2^64.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        let at = self.below(items.len() as u64);
        items[usize::try_from(at).unwrap_or(0)]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Where the generated time begins: 2025-01-01.
const FIRST_MS: u64 = 1_735_689_600_000;
const SPAN_MS: u64 = 600 * 86_400_000;

/// One app's worth of documents.
#[derive(Clone, Copy, Debug)]
pub struct ChatApp {
    pub seed: u64,
    pub conversations: u64,
}

/// The collections, in the order in which to write them.
pub const COLLECTIONS: [&str; 4] = ["users", "conversations", "widget_states", "auth_tokens"];

impl ChatApp {
    /// How many documents a collection has.
    #[must_use]
    pub fn count(&self, collection: &str) -> u64 {
        match collection {
            "conversations" => self.conversations,
            "widget_states" => self.conversations.div_ceil(4),
            _ => self.conversations.div_ceil(5),
        }
    }

    /// The document at a place from 0; keys grow with it.
    #[must_use]
    pub fn document(&self, collection: &str, index: u64) -> (Key, Body) {
        let salt = match collection {
            "users" => 1,
            "conversations" => 2,
            "widget_states" => 3,
            _ => 4,
        };
        // Each document has its own generator, so that any one can be made alone.
        let mut random =
            Random(self.seed ^ (salt << 56) ^ index.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let (key, value) = match collection {
            "users" => self.user(index, &mut random),
            "conversations" => return self.conversation(index, &mut random),
            "widget_states" => self.widget_state(index, &mut random),
            _ => self.auth_token(index, &mut random),
        };
        (Key::text(key), body(&value))
    }

    fn created_ms(&self, collection: &str, index: u64) -> u64 {
        let step = SPAN_MS / self.count(collection).max(1);
        FIRST_MS + index * step
    }

    fn user_id(&self, index: u64) -> String {
        id(
            "user",
            self.created_ms("users", index),
            &mut Random(self.seed ^ (5 << 56) ^ index),
        )
    }

    fn user(&self, index: u64, random: &mut Random) -> (String, Value) {
        let (first, last) = (random.pick(&FIRST_NAMES), random.pick(&LAST_NAMES));
        let at = self.created_ms("users", index);
        let user = json!({
            "name": format!("{first} {last}"),
            "email": format!("{}.{}{}@example.com", first.to_lowercase(), last.to_lowercase(), random.below(100)),
            "plan": random.pick(&["free", "free", "free", "plus", "team"]),
            "locale": random.pick(&["en-US", "en-GB", "de-DE", "fr-FR", "ja-JP", "pt-BR"]),
            "settings": { "theme": random.pick(&["light", "dark", "system"]), "notifications": !random.one_in(3) },
            "createdAt": instant(at),
        });
        (self.user_id(index), user)
    }

    fn conversation(&self, index: u64, random: &mut Random) -> (Key, Body) {
        let at = self.created_ms("conversations", index);
        let key = Key::text(id("conv", at, random));
        let topic = random.pick(&TOPICS);
        let mut clock = at;
        let turns = 1 + u64::from(random.one_in(4)) + u64::from(random.one_in(12)) * 2;
        let mut messages = Vec::new();
        for turn in 0..turns {
            self.turn(topic, turn, &mut clock, &mut messages, random);
        }
        let users = self.count("users").max(1);
        let mut doc = json!({
            "userId": self.user_id(random.below(users)),
            "title": topic.title,
            "model": random.pick(&["sandpiper-2", "sandpiper-2-mini", "curlew-1"]),
            "archived": random.one_in(9),
            "clientVersion": random.pick(&["ios-4.12.0", "ios-4.11.2", "android-4.12.1", "web-2026.3"]),
            "createdAt": instant(at),
            "updatedAt": instant(clock),
            "messages": messages,
        });
        match self.flaw(index) {
            None => (key, body(&doc)),
            Some(Flaw::Date) => {
                doc["createdAt"] = "yesterday".into();
                (key, body(&doc))
            }
            Some(Flaw::Arguments) => {
                let cut =
                    json!([{ "id": "call_0", "name": topic.tool, "arguments": "{\"query\": \"" }]);
                let message = json!({ "id": "msg_0", "role": "assistant", "content": null, "createdAt": instant(at), "toolCalls": cut });
                doc["messages"] = json!([message]);
                (key, body(&doc))
            }
            Some(Flaw::Version) => {
                doc["_schemaVersion"] = "v2".into();
                (key, body(&doc))
            }
        }
    }

    /// Three conversations are broken as real ones are: one in each later quarter, once there are a few.
    #[must_use]
    pub fn flaw(&self, index: u64) -> Option<Flaw> {
        let quarter = self.conversations / 4;
        if self.conversations < 20 || quarter == 0 || !index.is_multiple_of(quarter) {
            return None;
        }
        match index / quarter {
            1 => Some(Flaw::Date),
            2 => Some(Flaw::Arguments),
            3 => Some(Flaw::Version),
            _ => None,
        }
    }

    fn turn(
        &self,
        topic: Topic,
        turn: u64,
        clock: &mut u64,
        messages: &mut Vec<Value>,
        random: &mut Random,
    ) {
        let mut say =
            |role: &str, content: Value, extra: Option<(&str, Value)>, random: &mut Random| {
                *clock += 800 + random.below(40_000);
                let mut message = json!({
                    "id": format!("msg_{}", messages.len() + 1),
                    "role": role,
                    "content": content,
                    "createdAt": instant(*clock),
                });
                if let Some((name, value)) = extra {
                    message[name] = value;
                }
                messages.push(message);
            };
        let ask = if turn == 0 {
            topic.ask
        } else {
            random.pick(&FOLLOW_UPS)
        };
        say("user", ask.into(), None, random);
        if random.one_in(2) {
            let call = format!("call_{:08x}", random.below(1 << 32));
            let arguments =
                json!({ "query": topic.query, "limit": 3 + random.below(5) }).to_string();
            let calls = json!([{ "id": call, "name": topic.tool, "arguments": arguments }]);
            say("assistant", Value::Null, Some(("toolCalls", calls)), random);
            let found =
                json!({ "results": 1 + random.below(40), "best": random.pick(&topic.found) });
            say(
                "tool",
                found.to_string().into(),
                Some(("toolCallId", call.into())),
                random,
            );
        }
        let answer = format!(
            "{} {} {}",
            random.pick(&topic.answers),
            random.pick(&ADVICE),
            random.pick(&CLOSINGS)
        );
        say("assistant", answer.into(), None, random);
    }

    fn widget_state(&self, index: u64, random: &mut Random) -> (String, Value) {
        let at = self.created_ms("widget_states", index);
        let state = json!({
            "userId": self.user_id(random.below(self.count("users").max(1))),
            "widget": random.pick(&["map", "chart", "checklist", "player"]),
            "open": !random.one_in(4),
            "position": { "x": random.below(1200), "y": random.below(800) },
            "items": (0..random.below(5)).map(|_| random.pick(&ADVICE)).collect::<Vec<_>>(),
            "updatedAt": instant(at),
        });
        (id("wdg", at, random), state)
    }

    fn auth_token(&self, index: u64, random: &mut Random) -> (String, Value) {
        let at = self.created_ms("auth_tokens", index);
        let mut secret = || {
            (0..3)
                .map(|_| format!("{:016x}", random.next()))
                .collect::<String>()
        };
        let (access, refresh) = (secret(), secret());
        let token = json!({
            "userId": self.user_id(index),
            "provider": random.pick(&["calendar", "mail", "files"]),
            "accessToken": access,
            "refreshToken": refresh,
            "expiresAt": instant(at + 3_600_000),
        });
        (id("tok", at, random), token)
    }
}

/// How a conversation is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// `createdAt` holds no instant.
    Date,
    /// A tool call's arguments are cut off.
    Arguments,
    /// Somebody has patched the document by hand, and its version with it.
    Version,
}

fn body(value: &Value) -> Body {
    // Maps with text keys always serialize.
    Body::from_json(Bytes::from(serde_json::to_vec(value).unwrap_or_default()))
}

fn instant(ms: u64) -> String {
    let at = whimbrel_model::Timestamp::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    at.to_string()
}

/// A key that grows with time (a ULID behind a prefix).
fn id(prefix: &str, ms: u64, random: &mut Random) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let low = u128::from(random.next()) << 16 | u128::from(random.below(1 << 16));
    let mut bits = u128::from(ms) << 80 | low & ((1 << 80) - 1);
    let mut text = [0u8; 26];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(bits & 31) as usize];
        bits >>= 5;
    }
    format!("{prefix}_{}", String::from_utf8_lossy(&text))
}

#[derive(Clone, Copy)]
struct Topic {
    title: &'static str,
    ask: &'static str,
    tool: &'static str,
    query: &'static str,
    found: [&'static str; 3],
    answers: [&'static str; 3],
}

const FIRST_NAMES: [&str; 12] = [
    "Ada", "Noor", "Mateo", "Yuki", "Ines", "Kofi", "Lena", "Arjun", "Zoe", "Tomas", "Aisha",
    "Finn",
];
const LAST_NAMES: [&str; 12] = [
    "Okafor",
    "Lindqvist",
    "Moreau",
    "Tanaka",
    "Silva",
    "Novak",
    "Haddad",
    "Iyer",
    "Walsh",
    "Costa",
    "Meyer",
    "Kim",
];

const TOPICS: [Topic; 6] = [
    Topic {
        title: "Four days in Lisbon",
        ask: "We land in Lisbon on a Thursday with two kids. What is worth seeing in four days without a car?",
        tool: "search_places",
        query: "Lisbon family sights near tram 28",
        found: [
            "Oceanário de Lisboa",
            "Castelo de São Jorge",
            "Jardim da Estrela",
        ],
        answers: [
            "Begin in Alfama early in the morning, before the trams fill up, and keep the afternoon free for the river.",
            "The oceanarium takes half a day and works in any weather; take the red line to Oriente.",
            "Sintra is forty minutes by train, but with children one palace is enough for a day.",
        ],
    },
    Topic {
        title: "Query is slow since the index",
        ask: "Since we added an index on (user_id, created_at) one of our queries got slower. How can that be?",
        tool: "run_explain",
        query: "EXPLAIN ANALYZE SELECT … ORDER BY created_at LIMIT 20",
        found: ["Index Scan Backward", "Bitmap Heap Scan", "Seq Scan"],
        answers: [
            "The planner now walks the new index backwards and throws most rows away; compare the estimates with the rows.",
            "Check whether the statistics are fresh: after a bulk load the estimates can be off by three orders of magnitude.",
            "An index that serves ORDER BY looks cheap to the planner when it expects to stop early, and here it does not.",
        ],
    },
    Topic {
        title: "Sourdough that does not rise",
        ask: "My sourdough stays flat although the starter doubles. The dough is at 75 % hydration. What am I missing?",
        tool: "search_recipes",
        query: "sourdough underproofed crumb",
        found: [
            "Overnight country loaf",
            "Same-day sourdough",
            "Pan loaf for beginners",
        ],
        answers: [
            "A starter that doubles can still be past its peak when you use it; catch it while it is domed, not sunken.",
            "In a cool kitchen bulk fermentation takes eight hours rather than four; judge by volume, not by the clock.",
            "Flat and dense points to too little fermentation, flat and sticky to too much. Which of the two is yours?",
        ],
    },
    Topic {
        title: "Cover letter for a hospital job",
        ask: "Can you help me with a cover letter? I was a ward nurse for six years and apply as a clinic coordinator.",
        tool: "read_document",
        query: "job advert clinic coordinator requirements",
        found: [
            "Rota planning",
            "Patient communication",
            "Budget responsibility",
        ],
        answers: [
            "Open with the rota you ran for thirty people: it is exactly what a coordinator does all day.",
            "Say in one sentence why you change sides; they will ask, and it is better answered before.",
            "Keep the clinical detail for the interview, and use the space for what you organised.",
        ],
    },
    Topic {
        title: "Birthday present under 40 euros",
        ask: "My brother turns 30, likes climbing and board games, and I have 40 euros. Any ideas that are not a mug? 🎲",
        tool: "search_products",
        query: "gifts climbing board games under 40 EUR",
        found: [
            "Chalk bag with brush",
            "Two-player card game",
            "Bouldering day pass",
        ],
        answers: [
            "A day pass for two at a hall he does not know yet is a present and an afternoon together.",
            "For two people who like to think, a small abstract game lasts longer than a big box that needs five.",
            "A good brush and a bag of chalk are boring to buy for oneself, and exactly right to be given.",
        ],
    },
    Topic {
        title: "Lease: who pays for the boiler?",
        ask: "Our boiler broke and the landlord says that the lease makes us pay for small repairs. Is that right?",
        tool: "search_documents",
        query: "lease small repairs clause limit",
        found: ["§ 7 Small repairs", "§ 9 Maintenance", "Annex B"],
        answers: [
            "A clause on small repairs covers what you touch every day, such as taps and switches; a boiler is not that.",
            "Such clauses need a limit for each repair and for the year; without it they are usually void.",
            "Report the defect in writing today, with a date by which it is to be mended, and keep a copy.",
        ],
    },
];

const FOLLOW_UPS: [&str; 6] = [
    "Thanks, that helps. And what would you do if there were only half the time?",
    "Could you put that into a short list I can send to somebody else?",
    "I am not sure about the second point. Why do you think so?",
    "What is the most common mistake people make here?",
    "Good. Anything that I should do first, today?",
    "Hm, it did not work the first time. What could be the reason?",
];
const ADVICE: [&str; 6] = [
    "I would try the cheapest step first and look at what changes.",
    "Write down what you expect before you try it; it is easier to judge afterwards.",
    "If you are pressed for time, leave out everything but the first part.",
    "It helps to ask somebody who did it last month rather than last year.",
    "Most of it can be decided later; only the first step is hard to take back.",
    "There are exceptions, but they are rare enough not to plan for.",
];
const CLOSINGS: [&str; 5] = [
    "Shall I look up the details?",
    "Tell me how it goes.",
    "Would you like a short list?",
    "I can go deeper into any of these.",
    "Does that fit what you had in mind?",
];

#[cfg(test)]
mod tests {
    use super::*;

    const APP: ChatApp = ChatApp {
        seed: 7,
        conversations: 400,
    };

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_keys_grow() {
        for collection in COLLECTIONS {
            let mut last = None;
            for index in 0..APP.count(collection) {
                let (key, body) = APP.document(collection, index);
                let (again_key, again) = APP.document(collection, index);
                assert_eq!((&key, body.json()), (&again_key, again.json()));
                assert!(last < Some(key.clone()), "{collection} {index}");
                last = Some(key);
            }
        }
    }

    #[test]
    fn conversations_have_the_promised_size_and_flaws() {
        let mut bytes = 0;
        let mut broken = 0;
        for index in 0..APP.conversations {
            let (_, body) = APP.document("conversations", index);
            bytes += body.size();
            assert!(serde_json::from_slice::<Value>(&body.json()).is_ok());
            broken += u32::from(APP.flaw(index).is_some());
        }
        let mean = bytes as u64 / APP.conversations;
        assert!((1000..1300).contains(&mean), "{mean} bytes a conversation");
        assert_eq!(broken, 3);
        let few = ChatApp {
            conversations: 10,
            ..APP
        };
        assert!((0..10).all(|i| few.flaw(i).is_none()));
    }
}
