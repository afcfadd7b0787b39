/// Events per minute over the last ten minutes, and a rate over the last seconds. Updated once per
/// batch, never per event.
package struct RateHistory: Sendable {
    package static let minutes = 10
    private static let windowSeconds = 10

    private var perMinute = [Int](repeating: 0, count: minutes)
    private var perSecond = [Int](repeating: 0, count: windowSeconds)
    private var minute: Int64
    private var second: Int64

    package init(atSeconds now: Int64) {
        minute = now / 60
        second = now
    }

    package mutating func add(_ count: Int, atSeconds now: Int64) {
        advance(to: now)
        perMinute[Int(minute % Int64(Self.minutes))] += count
        perSecond[Int(second % Int64(Self.windowSeconds))] += count
    }

    private mutating func advance(to now: Int64) {
        Self.clear(&perMinute, from: &minute, to: now / 60)
        Self.clear(&perSecond, from: &second, to: now)
    }

    /// A clock that goes back a little keeps what there is; one that was far ahead starts afresh.
    fileprivate static func clear(_ slots: inout [Int], from last: inout Int64, to now: Int64) {
        guard now > last else {
            guard last - now > Int64(slots.count) else { return }
            slots = slots.map { _ in 0 }
            last = now
            return
        }
        for step in 1...min(now - last, Int64(slots.count)) {
            slots[Int((last + step) % Int64(slots.count))] = 0
        }
        if now - last > Int64(slots.count) { slots = slots.map { _ in 0 } }
        last = now
    }

    /// Events per second over the window.
    package mutating func rate(atSeconds now: Int64) -> Double {
        advance(to: now)
        return Double(perSecond.reduce(0, +)) / Double(Self.windowSeconds)
    }

    /// Oldest first.
    package mutating func lastMinutes(atSeconds now: Int64) -> [Int] {
        advance(to: now)
        return (1...Int64(Self.minutes)).map { perMinute[Int((minute + $0) % Int64(Self.minutes))] }
    }
}

/// How many of something there were in the last hour, by minutes: none that is older, and all of
/// the last 59 minutes.
struct HourCount: Sendable {
    private var perMinute = [Int](repeating: 0, count: 60)
    private var minute: Int64

    init(atSeconds now: Int64) { minute = now / 60 }

    mutating func add(atSeconds now: Int64) {
        RateHistory.clear(&perMinute, from: &minute, to: now / 60)
        perMinute[Int(minute % 60)] += 1
    }

    mutating func sum(atSeconds now: Int64) -> Int {
        RateHistory.clear(&perMinute, from: &minute, to: now / 60)
        return perMinute.reduce(0, +)
    }
}
