// Package tokens looks after Secrets that hold credentials, as a stock controller manager
// does: it fills the token Secrets that people make for ServiceAccounts, deletes those
// whose account is gone, deletes the ones that were made by older clusters and that nobody
// uses, and deletes bootstrap tokens when they expire.
//
// It makes no Secret, and reads only those of the two types, through caches of their own.
// A token is signed with the API server's key, which is read when one is needed. It keeps
// no state: after a crash every such Secret is looked at again.
package tokens
