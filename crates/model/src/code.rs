//! The codes of everything that can go wrong. Each has a page, `docs/errors/<id>.md`.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($variant:ident = $id:literal, $title:literal;)*) => {
        /// Names one kind of error, for scripts and for its page in the documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code { $(#[doc = $title] #[serde(rename = $id)] $variant,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// What scripts see: `WB-D01`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Code::$variant => $id,)* }
            }

            /// What happened, in one line.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }
        }
    };
}

codes! {
    DocMalformed = "WB-D01", "the document is not valid JSON";
    DocDuplicateKey = "WB-D02", "the document has the same field twice";
    DocTooDeep = "WB-D03", "the document is nested too deeply";
    DocLoneSurrogate = "WB-D04", "a string holds half a character (an unpaired surrogate)";
    DocNotObject = "WB-D05", "the document is not an object";
    DocVersionUnreadable = "WB-D06", "the document's schema version cannot be read";
    DocNewer = "WB-D07", "the document is newer than the newest known version";
    DocTransform = "WB-D08", "the transform failed";
    DocTimeout = "WB-D09", "the transform took too long";
    DocMemory = "WB-D10", "the transform needed too much memory";
    DocInvalid = "WB-D11", "the document is not valid";
    DocType = "WB-D12", "a field has another type than the operation needs";
    DocRefused = "WB-D13", "the store cannot hold the document";
    DocUnreadable = "WB-D14", "the row cannot be read as a document";
    DocContended = "WB-D15", "the document kept changing while it was being written";
    DocKey = "WB-D16", "a derived document has no usable key";
    Irreversible = "WB-D17", "there is no way back from this version";
    DocResult = "WB-D18", "the transform returned something that is no document";
    DocDiffers = "WB-D19", "the target does not hold what the source yields";
    ProjectInvalid = "WB-C01", "the project file is not valid";
    SchemaGap = "WB-C02", "the schema versions have a gap";
    SchemaInvalid = "WB-C03", "a schema version is not valid";
    SchemaUnknownVersion = "WB-C04", "there is no such schema version";
    UnknownCollection = "WB-C05", "there is no such collection";
    UnknownStore = "WB-C06", "there is no such store";
    StoreUrl = "WB-C07", "the store's URL is not valid";
    RulesInvalid = "WB-C08", "the copy rules are not valid";
    SchemaBreaking = "WB-C09", "a schema version breaks compatibility";
    ScriptInvalid = "WB-C10", "a script cannot be loaded";
    StoreUnavailable = "WB-S01", "the store cannot be reached or is busy";
    StoreFailed = "WB-S02", "the store refused the operation";
    StoreUnknown = "WB-S03", "whether the write happened is unknown";
    StoreFull = "WB-S04", "the store's disk is full";
    StoreMissing = "WB-S05", "the database or table does not exist";
    StoreDenied = "WB-S06", "the store denied access";
    StoreShape = "WB-S07", "the table cannot serve as a collection";
    StoreMoved = "WB-S08", "the store laid its documents out anew";
    LeaseHeld = "WB-L01", "another run holds the ledger's lease";
    LeaseLost = "WB-L02", "the ledger's lease was lost";
    LedgerBroken = "WB-L03", "the ledger's hash chain does not hold";
    LedgerNewer = "WB-L04", "the ledger was written by a newer program";
    LedgerFailed = "WB-L05", "the ledger cannot be read or written";
    LedgerMoved = "WB-L06", "another process wrote the ledger meanwhile";
    RunPending = "WB-R01", "an unfinished run is in the way";
    RunThreshold = "WB-R02", "too many documents failed";
    RunInterrupted = "WB-R03", "the run was interrupted";
    RunCounts = "WB-R04", "the counts do not add up";
    RunChanged = "WB-R05", "the job is not the one that was interrupted";
    MigrationInvalid = "WB-M01", "a migration file is not valid";
    MigrationDrift = "WB-M02", "an applied migration was edited";
    MigrationLate = "WB-M03", "a migration came after later ones were applied";
    MigrationOpen = "WB-M04", "a migration is on its way";
    MigrationAborted = "WB-M05", "an abort rule or an operator stopped the migration";
    StepFailed = "WB-M06", "a step failed";
    StepUnknown = "WB-M07", "what became of a step is unknown";
    StepInvalid = "WB-M08", "a step did what it should not, or not all of it";
    StepTimeout = "WB-M09", "a step took too long";
    UndoFailed = "WB-M10", "a step could not be taken back";
    ApprovalNeeded = "WB-M11", "a step waits for a go-ahead";
    MigrationPaused = "WB-M12", "the migration is paused";
    CheckInvalid = "WB-V01", "a check is not valid";
    CheckFailed = "WB-V02", "a check failed";
    CheckImpossible = "WB-V03", "a check could not be done";
    NotEqual = "WB-V04", "source and target are not equal";
    VerificationOld = "WB-V05", "the last verification is too old to rely on";
    ArchiveInvalid = "WB-B01", "the archive is damaged, altered or hostile";
    ArchiveMissing = "WB-B02", "there is no archive";
    ArchiveNewer = "WB-B03", "the archive was written by a newer program";
    ArchiveSealed = "WB-B04", "the archive is encrypted, or its signature cannot be trusted";
    VaultFailed = "WB-B05", "the place where archives are kept cannot be used";
    RestoreConflict = "WB-B06", "the restore would overwrite what is there";
    ServerBroken = "WB-G01", "the server stopped because of a mistake of its own";
}

impl Code {
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.id() == id)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
