import WeirCore

/// Which transactions the decoder leaves out by who wrote them (CORRECTNESS 22).
struct OriginSieve: Sendable {
    private let filter: OriginFilter
    private let names: Set<String>

    init(_ filter: OriginFilter) {
        self.filter = filter
        if case .origins(let list) = filter { names = Set(list) } else { names = [] }
    }

    /// From 16 on the server itself leaves out whatever has an origin.
    static func serverLeavesOut(_ filter: OriginFilter, version: Int) -> Bool {
        filter == .everyOrigin && version >= 160000
    }

    /// Asked once for each transaction that has an origin.
    func leavesOut(_ name: String) -> Bool {
        switch filter {
        case .nothing: false
        case .everyOrigin: true
        case .origins: names.contains(name)
        }
    }
}
