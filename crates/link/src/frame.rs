//! One frame: a big-endian `u32` length, then that many bytes of one CBOR item.
//!
//! The length is checked against the reader's own cap before a byte of the body is read or room for it
//! is made, and the body must be one whole item with nothing after it. The functions of [`blocking`] are
//! the same for ordinary sockets and files.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Stream(#[from] io::Error),
    /// The stream ended inside a frame.
    #[error("the connection ended in the middle of a message")]
    Torn,
    /// The other side wants to send more than it may.
    #[error("a message of {length} bytes, and at most {limit} are taken")]
    TooLong {
        /// As announced.
        length: usize,
        /// What is taken.
        limit: usize,
    },
    /// The bytes are no message that is known here.
    #[error("not a message that this version knows: {0}")]
    Unreadable(String),
}

/// Reads one message of at most `limit` bytes; `None` when the stream ended between two frames.
///
/// # Errors
/// See [`FrameError`]. After any error the stream's position is unknown: close it.
pub async fn read<M, R>(from: &mut R, limit: usize) -> Result<Option<M>, FrameError>
where
    M: DeserializeOwned,
    R: AsyncRead + Unpin,
{
    Ok(read_counted(from, limit).await?.map(|(message, _)| message))
}

/// The same, and how many bytes it had: for quotas.
///
/// # Errors
/// As [`read`].
pub async fn read_counted<M, R>(
    from: &mut R,
    limit: usize,
) -> Result<Option<(M, usize)>, FrameError>
where
    M: DeserializeOwned,
    R: AsyncRead + Unpin,
{
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match from.read(&mut head[have..]).await? {
            0 if have == 0 => return Ok(None),
            0 => return Err(FrameError::Torn),
            count => have += count,
        }
    }
    let mut body = vec![0; checked_length(head, limit)?];
    from.read_exact(&mut body).await.map_err(torn)?;
    Ok(Some((decode(&body)?, body.len())))
}

/// Writes one message of at most `limit` bytes, and flushes.
///
/// # Errors
/// See [`FrameError`]; nothing is written if the message is too long.
pub async fn write<M, W>(to: &mut W, message: &M, limit: usize) -> Result<(), FrameError>
where
    M: Serialize,
    W: AsyncWrite + Unpin,
{
    to.write_all(&encode(message, limit)?).await?;
    to.flush().await?;
    Ok(())
}

/// The same, for ordinary sockets.
pub mod blocking {
    use std::io::{Read, Write};

    use super::{
        DeserializeOwned, FrameError, Serialize, checked_length, decode, encode, io, torn,
    };

    /// Reads one message of at most `limit` bytes; `None` when the stream ended between two frames.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn read<M: DeserializeOwned>(
        from: &mut impl Read,
        limit: usize,
    ) -> Result<Option<M>, FrameError> {
        let mut head = [0; 4];
        let mut have = 0;
        while have < head.len() {
            match from.read(&mut head[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(FrameError::Torn),
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut body = vec![0; checked_length(head, limit)?];
        from.read_exact(&mut body).map_err(torn)?;
        decode(&body).map(Some)
    }

    /// Writes one message of at most `limit` bytes, and flushes.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn write<M: Serialize>(
        to: &mut impl Write,
        message: &M,
        limit: usize,
    ) -> Result<(), FrameError> {
        to.write_all(&encode(message, limit)?)?;
        to.flush()?;
        Ok(())
    }
}

/// One whole frame, length included.
///
/// # Errors
/// [`FrameError::TooLong`] or [`FrameError::Unreadable`] if the message can't be encoded.
pub fn encode<M: Serialize>(message: &M, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    ciborium::into_writer(message, &mut bytes)
        .map_err(|error| FrameError::Unreadable(error.to_string()))?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(head) if length <= limit => bytes[..4].copy_from_slice(&head.to_be_bytes()),
        _ => return Err(FrameError::TooLong { length, limit }),
    }
    Ok(bytes)
}

/// The message in a frame's body.
///
/// # Errors
/// [`FrameError::Unreadable`], also when bytes are left over.
pub fn decode<M: DeserializeOwned>(mut body: &[u8]) -> Result<M, FrameError> {
    let message = ciborium::from_reader(&mut body)
        .map_err(|error| FrameError::Unreadable(error.to_string()))?;
    if body.is_empty() {
        Ok(message)
    } else {
        Err(FrameError::Unreadable(format!("{} bytes after its end", body.len())))
    }
}

fn checked_length(head: [u8; 4], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > limit { Err(FrameError::TooLong { length, limit }) } else { Ok(length) }
}

fn torn(error: io::Error) -> FrameError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        FrameError::Torn
    } else {
        FrameError::Stream(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_the_way() {
        let mut bytes = Vec::new();
        blocking::write(&mut bytes, &("order", 7_u64), 100).unwrap();
        blocking::write(&mut bytes, &("again", 8_u64), 100).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(
            blocking::read::<(String, u64)>(&mut from, 100).unwrap(),
            Some(("order".into(), 7))
        );
        assert_eq!(
            blocking::read::<(String, u64)>(&mut from, 100).unwrap(),
            Some(("again".into(), 8))
        );
        assert_eq!(blocking::read::<(String, u64)>(&mut from, 100).unwrap(), None);
    }

    #[test]
    fn a_length_above_the_cap_is_refused_before_any_room_is_made() {
        let mut from = [0xff, 0xff, 0xff, 0xff].as_slice();
        assert!(matches!(
            blocking::read::<u64>(&mut from, 1000),
            Err(FrameError::TooLong { limit: 1000, .. })
        ));
    }

    #[test]
    fn a_torn_frame_is_said_to_be_torn() {
        let whole = encode(&"text", 100).unwrap();
        for end in 1..whole.len() {
            let mut from = &whole[..end];
            assert!(matches!(blocking::read::<String>(&mut from, 100), Err(FrameError::Torn)));
        }
    }

    #[test]
    fn bytes_after_the_message_are_refused() {
        assert!(decode::<u8>(&[1, 2]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(0u8.., 0..300)) {
            let mut from = bytes.as_slice();
            while let Ok(Some(_)) = blocking::read::<Vec<Option<String>>>(&mut from, 64) {}
        }

        #[test]
        fn blocking_and_asynchronous_reading_agree(bytes in proptest::collection::vec(0u8.., 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let slow = runtime.block_on(read::<u32, _>(&mut bytes.as_slice(), 32));
            let fast = blocking::read::<u32>(&mut bytes.as_slice(), 32);
            proptest::prop_assert_eq!(format!("{slow:?}"), format!("{fast:?}"));
        }
    }
}
