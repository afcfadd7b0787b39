/// What Weir's time is compared with.
struct Yardstick: Sendable {
    /// Whose time, divided by Weir's, is the ratio.
    let program: String
    /// The least ratio that the project promises; nil for no promise.
    let ratioMin: Double?
}
