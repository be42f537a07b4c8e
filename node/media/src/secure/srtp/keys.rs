//! Session keys out of master keys, RFC 3711 section 4.3 and RFC 7714 section 11.

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;

use super::cipher::Cipher;
use super::{InvalidKeyLength, MASTER_KEY_LEN, profile_lengths};
use crate::secure::srtp::SrtpProfile;

/// The two ciphers of one direction.
pub(super) struct SessionKeys {
    pub(super) rtp: Cipher,
    pub(super) rtcp: Cipher,
}

impl SessionKeys {
    /// Derives the keys of one direction from master key and salt, concatenated.
    pub(super) fn derive(profile: SrtpProfile, master: &[u8]) -> Result<Self, InvalidKeyLength> {
        let expected = MASTER_KEY_LEN + profile_lengths(profile).salt;
        let wrong_length = InvalidKeyLength { expected, actual: master.len() };
        if master.len() != expected {
            return Err(wrong_length);
        }
        let (key, salt) = master.split_at(MASTER_KEY_LEN);
        // The only other failure is a key of the wrong length.
        Kdf::new(key, salt).and_then(|kdf| Self::derive_with(profile, &kdf)).map_err(|Unspecified| wrong_length)
    }

    fn derive_with(profile: SrtpProfile, kdf: &Kdf) -> Result<Self, Unspecified> {
        let cipher = |labels: [u8; 3]| match profile {
            SrtpProfile::AeadAes128Gcm => Cipher::gcm(&kdf.derive::<16>(labels[0])?, kdf.derive(labels[2])?),
            SrtpProfile::Aes128CmSha1_80 => {
                Cipher::aes_cm(&kdf.derive::<16>(labels[0])?, &kdf.derive::<20>(labels[1])?, kdf.derive(labels[2])?)
            }
        };
        Ok(Self { rtp: cipher([0, 1, 2])?, rtcp: cipher([3, 4, 5])? })
    }
}

/// AES-CM as pseudo-random function, RFC 3711 section 4.3.3, with a key derivation rate of zero.
struct Kdf {
    key: EncryptingKey,
    /// The master salt, followed by zeros where the profile's is shorter and where the block counter goes.
    salt: [u8; 16],
}

impl Kdf {
    fn new(master_key: &[u8], master_salt: &[u8]) -> Result<Self, Unspecified> {
        let mut salt = [0; 16];
        salt.get_mut(..master_salt.len()).ok_or(Unspecified)?.copy_from_slice(master_salt);
        Ok(Self { key: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, master_key)?)?, salt })
    }

    fn derive<const LEN: usize>(&self, label: u8) -> Result<[u8; LEN], Unspecified> {
        let mut block = self.salt;
        block[7] ^= label;
        let mut derived = [0; LEN];
        self.key.less_safe_encrypt(&mut derived, EncryptionContext::Iv128(FixedLength::from(block)))?;
        Ok(derived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 appendix B.3.
    #[test]
    fn derives_the_keys_of_the_rfc() {
        let master_key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
        let master_salt = hex("0EC675AD498AFEEBB6960B3AABE6");
        let kdf = Kdf::new(&master_key, &master_salt).unwrap();
        assert_eq!(kdf.derive::<16>(0).unwrap()[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(kdf.derive::<14>(2).unwrap()[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        let auth = kdf.derive::<94>(1).unwrap();
        assert_eq!(auth[..16], hex("CEBE321F6FF7716B6FD4AB49AF256A15"));
        assert_eq!(auth[80..], hex("6B68642C59BBFC2F34DB60DBDFB2"));
    }

    #[test]
    fn refuses_keys_of_the_wrong_length() {
        for (profile, expected) in [(SrtpProfile::AeadAes128Gcm, 28), (SrtpProfile::Aes128CmSha1_80, 30)] {
            for actual in [0, 27, 29, 31] {
                let error = SessionKeys::derive(profile, &vec![0; actual]).err().unwrap();
                assert_eq!(error, InvalidKeyLength { expected, actual });
            }
            assert!(SessionKeys::derive(profile, &vec![0; expected]).is_ok());
        }
    }

    fn hex(digits: &str) -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
    }
}
