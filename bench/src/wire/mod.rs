//! Bits that floors and client share: WebSocket frames, Redis's protocol, lines of JSON.
