import Glibc

/// The time of day, for people and for lag; durations use the monotonic clock.
package enum WallClock {
    /// Microseconds since 1970-01-01 UTC.
    package static func micros() -> Int64 {
        var now = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    }

    package static func seconds() -> Int64 { micros() / 1_000_000 }
}

extension Duration {
    package var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}
