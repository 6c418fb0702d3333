<?php
// The tutorial's other worker: it halves a picture. Told to stop, it finishes its job first.
$worker = new GearmanWorker();
if (!getenv("GEARMAN_SERVERS")) {
    $worker->addServer();
}
$worker->addFunction("resize", function (GearmanJob $job) {
    $picture = new Imagick();
    $picture->readImageBlob($job->workload());
    $picture->scaleImage(intdiv($picture->getImageWidth(), 2), 0);
    $picture->setImageFormat("jpeg");
    return $picture->getImageBlob();
});

$leave = false;
pcntl_async_signals(true);
pcntl_signal(SIGTERM, function () use (&$leave) { $leave = true; });
$worker->setTimeout(1000);    // so that an idle worker looks at $leave
while (!$leave && (@$worker->work() || $worker->returnCode() == GEARMAN_TIMEOUT));
