//! Secrets that the shop makes for itself: once, readable by its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use amarra_core::Entropy;
use amarra_shop::auth::{KeyConfig, Purpose};
use amarra_shop::contract::users::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::{KeysSection, Source};
use crate::refusal::{Failure, Refuse};

/// The folder of a shop's own secrets.
#[derive(Debug)]
pub(crate) struct Vault {
    folder: PathBuf,
}

impl Vault {
    /// Opens the folder `keys` in `data`, and makes it when it is not there.
    pub(crate) fn open(data: &Path) -> Result<Self, Failure> {
        let folder = data.join("keys");
        make_folder(&folder)?;
        Ok(Self { folder })
    }

    /// Returns where a secret is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the secret of that name; draws and keeps 32 random bytes when there is none.
    pub(crate) fn secret(&self, name: &str, entropy: &dyn Entropy) -> Result<Secret, Failure> {
        let path = self.path(name);
        if !path.exists() {
            let mut bytes = [0; 32];
            entropy.fill(&mut bytes);
            self.keep(name, &URL_SAFE_NO_PAD.encode(bytes))?;
        }
        Source::of_file(path).read(name, Path::new(""))
    }

    /// Keeps a text under a name, durably, replacing what was there.
    pub(crate) fn keep(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        let shown = path.display();
        let written = || -> std::io::Result<()> {
            let young = self.path(&format!("{name}.new"));
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&young)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&young, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        written().refuse_for(format!("cannot write {shown}"))
    }

    /// Makes every secret of a shop and names where each is.
    pub(crate) fn fill(&self, entropy: &dyn Entropy) -> Result<KeysSection, Failure> {
        let drawn = ["token.seed", "quote.seed", "users.hash", "webhook", "admin.password"];
        for name in drawn {
            self.secret(name, entropy)?;
        }
        for (seed, public, purpose) in [
            ("token.seed", "token.public", Purpose::AccessToken),
            ("quote.seed", "quote.public", Purpose::Quote),
        ] {
            let keys = KeyConfig { active: self.secret(seed, entropy)?, standby: None };
            let jwks = keys.key_set(purpose).refuse()?.to_jwks();
            self.keep(public, &serde_json::to_string(&jwks).refuse()?)?;
        }
        let at = |name: &str| Some(Source::of_file(self.path(name)));
        Ok(KeysSection {
            token_seed: at("token.seed"),
            token_public: at("token.public"),
            quote_seed: at("quote.seed"),
            quote_public: at("quote.public"),
            users_hash: at("users.hash"),
            webhook: at("webhook"),
            admin_password: at("admin.password"),
        })
    }
}

/// Makes a folder that its owner alone may enter.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.refuse_for(format!("cannot make the folder {}", folder.display()))
}
