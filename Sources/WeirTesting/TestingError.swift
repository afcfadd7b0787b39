/// Something a test stands on is missing or did not happen in time.
package struct TestingError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
