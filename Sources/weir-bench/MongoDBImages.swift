extension BenchmarkCase {
    static let mongoDBImages = BenchmarkCase(
        name: "mongodb-images",
        summary: "updates of such documents, each with the document before and after it; then "
            + "without images, where Weir looks the documents up",
        run: measureMongoDBImages)
}

private func measureMongoDBImages(_ session: Session) async throws -> CaseReport {
    let whenAvailable = "whenAvailable"
    let images = DocumentBacklog(
        change: .update, defaultChanges: 100_000, keepsImages: true,
        streamOptions: [
            ("fullDocument", whenAvailable), ("fullDocumentBeforeChange", whenAvailable),
        ],
        mark: #","before":{"_id":{"$oid":"#)
    let lookups = DocumentBacklog(
        change: .update, defaultChanges: 100_000,
        streamOptions: [("fullDocument", "updateLookup")],
        mark: #","late":true"#)
    let yardstick = Yardstick(program: ChangeLoop.program, ratioMin: nil)
    let report = { (rounds: [BacklogRound]) in
        CaseReport("mongodb-images", images.changes(session), rounds, yardstick)
    }
    let kept = report(try await images.measure(session))
    session.console.line("  without images:")
    let found = report(try await lookups.measure(session)).prefixed("no images: ")
    return CaseReport(
        name: kept.name, figures: kept.figures + found.figures,
        samples: kept.samples + found.samples)
}

extension CaseReport {
    /// The same figures by longer names.
    fileprivate func prefixed(_ prefix: String) -> CaseReport {
        CaseReport(
            name: name,
            figures: figures.map { Figure(prefix + $0.name, $0.unit, $0.value, goal: $0.goal) },
            samples: samples.map {
                Samples(name: prefix + $0.name, unit: $0.unit, values: $0.values)
            })
    }
}
