<?php
// For each line, a foreground job by the same client; prints its result, or "lost".
// php turns.php SERVERS FUNCTION
[, $servers, $function] = $argv;
$client = new GearmanClient();
$client->addServers($servers);
while (($line = fgets(STDIN)) !== false) {
    $result = @$client->doNormal($function, rtrim($line, "\n"));
    echo ($client->returnCode() == GEARMAN_SUCCESS ? $result : "lost") . "\n";
}
