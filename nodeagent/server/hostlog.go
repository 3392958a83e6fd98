package server

import (
	"net/http"
	"os"
)

// getHostLog shows the folder of the machine's logs. Nothing outside it is reachable, by
// links either: Pods may be able to write below it.
func (s *Server) getHostLog(w http.ResponseWriter, r *http.Request) {
	root, err := os.OpenRoot(s.LogDir)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "the folder of logs cannot be opened")
		return
	}
	defer func() { _ = root.Close() }()
	http.StripPrefix("/logs/", http.FileServerFS(root.FS())).ServeHTTP(w, r)
}
