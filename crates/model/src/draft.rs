//! A document while it is being changed: cut into its members, of which only those that somebody looks
//! at are parsed, and only those that somebody changed are written anew.

use crate::json::{self, JsonError};
use crate::{Body, Fingerprint, Map, Value};
use bytes::Bytes;
use std::ops::Range;

/// A document's top-level members in their order. Members nobody touched keep their very bytes.
#[derive(Clone, Debug)]
pub struct Draft {
    source: Bytes,
    members: Vec<Member>,
    /// Whether anything differs from `source`.
    changed: bool,
}

#[derive(Clone, Debug)]
struct Member {
    name: Name,
    slot: Slot,
}

#[derive(Clone, Debug)]
enum Name {
    /// A range of `source` without escapes.
    Source(Range<u32>),
    Owned(String),
}

#[derive(Clone, Debug)]
enum Slot {
    Raw(Range<u32>),
    /// Parsed for reading; the bytes still hold.
    Read(Range<u32>, Box<Value>),
    /// Boxed, so that the members nobody looks at stay small.
    Value(Box<Value>),
    /// Already tagged JSON, from elsewhere.
    Json(Bytes),
}

fn slice<'a>(source: &'a Bytes, range: &Range<u32>) -> &'a [u8] {
    &source[range.start as usize..range.end as usize]
}

/// Places in errors are of the whole source.
fn parse_range(source: &Bytes, range: &Range<u32>) -> Result<Value, JsonError> {
    json::parse(slice(source, range)).map_err(|mut error| {
        error.at += range.start as usize;
        error
    })
}

impl Draft {
    /// # Errors
    /// The bytes are not one JSON object.
    pub fn from_json(source: Bytes) -> Result<Self, JsonError> {
        let mut members = Vec::with_capacity(16);
        json::split_each(&source, |member| {
            members.push(Member {
                name: if member.name_escaped {
                    Name::Owned(json::resolve_name(&source, &member)?)
                } else {
                    Name::Source(member.name)
                },
                slot: Slot::Raw(member.value),
            });
            Ok(())
        })?;
        let mut draft = Self {
            source,
            members,
            changed: false,
        };
        draft.read_tag()?;
        Ok(draft)
    }

    /// Reads an only member that is named like a tag as [`json::parse`] does.
    fn read_tag(&mut self) -> Result<(), JsonError> {
        let [only] = self.members.as_slice() else {
            return Ok(());
        };
        match json::dollars(self.name_of(only)) {
            0 => Ok(()),
            // A tagged value is no document. What cannot be read at all stays until somebody reads it.
            1 => match json::parse(&self.source) {
                Ok(Value::Map(_)) | Err(_) => Ok(()),
                Ok(_) => Err(JsonError::not_object()),
            },
            _ => {
                match &mut self.members[0].name {
                    Name::Source(range) => range.start += 1,
                    Name::Owned(name) => drop(name.remove(0)),
                }
                Ok(())
            }
        }
    }

    #[must_use]
    pub fn from_map(map: Map) -> Self {
        let members = map
            .into_iter()
            .map(|(name, value)| Member {
                name: Name::Owned(name),
                slot: Slot::Value(Box::new(value)),
            })
            .collect();
        Self {
            source: Bytes::new(),
            members,
            changed: true,
        }
    }

    /// # Errors
    /// The body's bytes are not one JSON object.
    pub fn from_body(body: Body) -> Result<Self, JsonError> {
        match body {
            Body::Json(bytes) => Self::from_json(bytes),
            Body::Map(map) => Ok(Self::from_map(map)),
        }
    }

    fn name_of<'a>(&'a self, member: &'a Member) -> &'a str {
        match &member.name {
            // Split has checked the bytes as UTF-8; an empty name is the harmless answer otherwise.
            Name::Source(range) => std::str::from_utf8(slice(&self.source, range)).unwrap_or(""),
            Name::Owned(name) => name,
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|m| match &m.name {
            Name::Source(range) => slice(&self.source, range) == name.as_bytes(),
            Name::Owned(owned) => owned == name,
        })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.index(name).is_some()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|m| self.name_of(m))
    }

    /// The member's tagged JSON where it still is what was read or given; `None` where the member is
    /// missing or was changed as a value.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&[u8]> {
        self.index(name).and_then(|i| self.raw_at(i))
    }

    /// As [`Draft::raw`], by place.
    #[must_use]
    pub fn raw_at(&self, index: usize) -> Option<&[u8]> {
        match &self.members.get(index)?.slot {
            Slot::Raw(range) | Slot::Read(range, _) => Some(slice(&self.source, range)),
            Slot::Json(bytes) => Some(bytes),
            Slot::Value(_) => None,
        }
    }

    /// Name and content of the member at `index`: its value where it is parsed, else its bytes.
    #[must_use]
    pub fn member_at(&self, index: usize) -> Option<(&str, MemberRef<'_>)> {
        let member = self.members.get(index)?;
        let content = match &member.slot {
            Slot::Raw(range) => MemberRef::Json(slice(&self.source, range)),
            Slot::Json(bytes) => MemberRef::Json(bytes),
            Slot::Read(_, value) | Slot::Value(value) => MemberRef::Value(value),
        };
        Some((self.name_of(member), content))
    }

    /// The member's value, parsed at the first call.
    ///
    /// # Errors
    /// The member holds what values cannot (an unpaired surrogate).
    pub fn get(&mut self, name: &str) -> Result<Option<&Value>, JsonError> {
        let Some(i) = self.index(name) else {
            return Ok(None);
        };
        self.read(i).map(Some)
    }

    fn read(&mut self, index: usize) -> Result<&Value, JsonError> {
        let slot = &mut self.members[index].slot;
        match slot {
            Slot::Raw(range) => {
                let value = parse_range(&self.source, range)?;
                *slot = Slot::Read(range.clone(), Box::new(value));
            }
            Slot::Json(bytes) => *slot = Slot::Value(Box::new(json::parse(bytes)?)),
            Slot::Read(..) | Slot::Value(_) => {}
        }
        match &self.members[index].slot {
            Slot::Read(_, value) | Slot::Value(value) => Ok(value),
            Slot::Raw(_) | Slot::Json(_) => unreachable!("the slot was parsed above"),
        }
    }

    /// Parses every member that is not parsed yet, so that [`Draft::member_at`] gives values.
    ///
    /// # Errors
    /// As [`Draft::get`].
    pub fn read_all(&mut self) -> Result<(), JsonError> {
        for index in 0..self.members.len() {
            self.read(index)?;
        }
        Ok(())
    }

    /// The member's value for changing; its bytes are written anew.
    ///
    /// # Errors
    /// As [`Draft::get`].
    pub fn get_mut(&mut self, name: &str) -> Result<Option<&mut Value>, JsonError> {
        let Some(i) = self.index(name) else {
            return Ok(None);
        };
        self.read(i)?;
        self.changed = true;
        let slot = &mut self.members[i].slot;
        if let Slot::Read(_, value) = slot {
            *slot = Slot::Value(std::mem::replace(value, Box::new(Value::Null)));
        }
        match slot {
            Slot::Value(value) => Ok(Some(value)),
            _ => unreachable!("the slot was made a value above"),
        }
    }

    /// Sets a member; a new one goes to the end.
    pub fn set(&mut self, name: &str, value: Value) {
        self.put(name, Slot::Value(Box::new(value)));
    }

    /// Sets a member to checked tagged JSON.
    pub fn set_json(&mut self, name: &str, json: Bytes) {
        self.put(name, Slot::Json(json));
    }

    fn put(&mut self, name: &str, slot: Slot) {
        self.changed = true;
        match self.index(name) {
            Some(i) => self.members[i].slot = slot,
            None => self.members.push(Member {
                name: Name::Owned(name.to_owned()),
                slot,
            }),
        }
    }

    /// Where the member stands among the members.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index(name)
    }

    /// Puts a new member before the one at `at` (at the end where there are fewer). A member that
    /// already has the name is set where it stands.
    pub fn insert(&mut self, at: usize, name: &str, value: Value) {
        if self.index(name).is_some() {
            return self.set(name, value);
        }
        self.changed = true;
        let at = at.min(self.members.len());
        let member = Member {
            name: Name::Owned(name.to_owned()),
            slot: Slot::Value(Box::new(value)),
        };
        self.members.insert(at, member);
    }

    /// Takes a member out, parsed.
    ///
    /// # Errors
    /// As [`Draft::get`]; the member then stays.
    pub fn take(&mut self, name: &str) -> Result<Option<Value>, JsonError> {
        let Some(i) = self.index(name) else {
            return Ok(None);
        };
        self.read(i)?;
        self.changed = true;
        match self.members.remove(i).slot {
            Slot::Read(_, value) | Slot::Value(value) => Ok(Some(*value)),
            Slot::Raw(_) | Slot::Json(_) => unreachable!("the slot was parsed above"),
        }
    }

    /// Drops a member unparsed. Says whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(i) = self.index(name) else {
            return false;
        };
        self.members.remove(i);
        self.changed = true;
        true
    }

    /// Gives a member another name at the same place, unparsed. Says whether it was there. A member that
    /// already has the new name is replaced.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        if from == to {
            return self.contains(from);
        }
        if self.index(from).is_none() {
            return false;
        }
        self.remove(to);
        if let Some(i) = self.index(from) {
            self.members[i].name = Name::Owned(to.to_owned());
        }
        self.changed = true;
        true
    }

    /// Copies a member under another name, unparsed. Says whether it was there.
    pub fn copy(&mut self, from: &str, to: &str) -> bool {
        let Some(i) = self.index(from) else {
            return false;
        };
        let slot = match &self.members[i].slot {
            Slot::Raw(range) | Slot::Read(range, _) => Slot::Raw(range.clone()),
            other => other.clone(),
        };
        self.put(to, slot);
        true
    }

    /// # Errors
    /// As [`Draft::get`].
    pub fn into_map(self) -> Result<Map, JsonError> {
        let mut map = Map::with_capacity(self.members.len());
        for member in self.members {
            let name = match member.name {
                Name::Owned(name) => name,
                Name::Source(range) => {
                    String::from_utf8_lossy(slice(&self.source, &range)).into_owned()
                }
            };
            let value = match member.slot {
                Slot::Raw(range) => parse_range(&self.source, &range)?,
                Slot::Json(bytes) => json::parse(&bytes)?,
                Slot::Read(_, value) | Slot::Value(value) => *value,
            };
            map.insert(name, value);
        }
        Ok(map)
    }

    /// Appends the draft as one tagged JSON object. An untouched draft gives its very bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        if !self.changed {
            out.extend_from_slice(&self.source);
            return;
        }
        // As in `json::write_map`: an only member must not be read as a tag.
        let escape = match self.members.as_slice() {
            [only] => json::dollars(self.name_of(only)) > 0,
            _ => false,
        };
        out.push(b'{');
        for (i, member) in self.members.iter().enumerate() {
            out.extend_from_slice(if i > 0 { b",\"" } else { b"\"" });
            if escape {
                out.push(b'$');
            }
            match &member.name {
                Name::Source(range) => out.extend_from_slice(slice(&self.source, range)),
                Name::Owned(name) => json::write_string_inside(name, out),
            }
            out.extend_from_slice(b"\":");
            match &member.slot {
                Slot::Raw(range) | Slot::Read(range, _) => {
                    out.extend_from_slice(slice(&self.source, range));
                }
                Slot::Json(bytes) => out.extend_from_slice(bytes),
                Slot::Value(value) => json::write(value, out),
            }
        }
        out.push(b'}');
    }

    #[must_use]
    pub fn into_body(self) -> Body {
        if !self.changed {
            return Body::Json(self.source);
        }
        let mut out = Vec::with_capacity(self.source.len() + 128);
        self.write(&mut out);
        Body::Json(out.into())
    }

    /// # Errors
    /// As [`Draft::get`].
    pub fn fingerprint(&self) -> Result<Fingerprint, JsonError> {
        if !self.changed {
            return json::fingerprint(&self.source);
        }
        let mut out = Vec::with_capacity(self.source.len() + 128);
        self.write(&mut out);
        json::fingerprint(&out)
    }
}

/// The content of a draft's member.
#[derive(Clone, Copy, Debug)]
pub enum MemberRef<'a> {
    Json(&'a [u8]),
    Value(&'a Value),
}
