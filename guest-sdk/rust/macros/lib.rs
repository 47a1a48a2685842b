//! The derive and attribute macros of tidemill-guest.
