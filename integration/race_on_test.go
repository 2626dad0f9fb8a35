//go:build race

package integration

// raceDetector: the programs under test are built with it too, and are slower
// for it.
const raceDetector = true
