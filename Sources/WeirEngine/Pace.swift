/// How often and how soon the engine does things by itself. Users have no say in it; tests hurry.
package struct Pace: Sendable {
    /// Between two checkpoints while events flow.
    package var checkpoint = Duration.milliseconds(200)
    /// When only the position moved, as at an idle source, it is stored this rarely: every
    /// checkpoint costs the disk a sync.
    package var idleCheckpoint = Duration.seconds(5)
    /// The longest first wait after a failure.
    package var retry = Backoff.base
    /// The longest wait after many.
    package var retryMax = Backoff.ceiling

    package init() {}

    var backoff: Backoff { Backoff(first: retry, most: retryMax) }
}
