// Package control is how a running collector is asked, and told.
//
//	unspan sessions ──► Client ──► /run/unspan/eth1.sock ──► Server ──► the collector
//	                               mode 0600, in a           asks the kernel whose
//	                               directory of mode 0700    the other end is
//
// The protocol is HTTP/1.1 over a unix socket:
//
//	GET /stats     the ledger
//	GET /sessions  the feeds, with their rates since the last look
//	GET /flows     flows, hosts, services or who calls what: ?by= ?order= ?limit= ?q=
//	GET /top       feeds, losses and flows for a terminal, ?feeds= rows of feeds
//	GET /policy    the policy in force and what its rules have met
//	PUT /policy    another policy, the file's content as the body, its name as ?name=
//
// An answer is a table, or JSON with "Accept: application/json". The collector
// renders both, so that a client of another version prints them as well. An
// error is a status other than 200 and a line of text with the cure.
//
// The peer's uid, which the kernel vouches for (SO_PEERCRED, unix(7)), must be
// root's or the collector's own: whoever was handed a descriptor, or found the
// modes changed, gets no answer.
package control

import (
	"path/filepath"
	"strings"
)

// Directory is where collectors have their sockets when nobody says otherwise.
const Directory = "/run/unspan"

const suffix = ".sock"

// Path is the socket of the collector of an interface.
func Path(interfaceName string) string {
	return filepath.Join(Directory, interfaceName+suffix)
}

// interfaceOf is the interface whose collector has this socket.
func interfaceOf(path string) string {
	return strings.TrimSuffix(filepath.Base(path), suffix)
}

const (
	maxPolicy = 1 << 20  // bytes of a policy file
	maxError  = 64 << 10 // bytes of an error text
	maxPath   = 107      // sun_path less its final zero byte (unix(7))

	typeJSON = "application/json"
	typeText = "text/plain; charset=utf-8"
)
